const $ = id => document.getElementById(id);
const viewer = document.querySelector(".viewer");
let names = ["sent", "enlarged"], state = null, chosen = null, asking = null, addresses = [];
const show = makeSlider(viewer, () => names);

const megabytes = bytes => Number((bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 1)) + " MB";

async function learn() {
  try {
    state = await (await fetch("ready")).json();
    $("model").textContent = `${state.model}, version ${state.version}: ${state.scale} times as wide and high`;
    const { max_bytes, max_pixels } = state.limits;
    $("limits").textContent = `; at most ${megabytes(max_bytes)} and ${Math.floor(max_pixels / 1e4) / 100} megapixels`;
  } catch {
    complain("no answer", "The server does not answer; is it running?");
  }
}

function complain(error, detail) {
  $("error").textContent = error[0].toUpperCase() + error.slice(1);
  $("detail").textContent = detail;
  $("problem").hidden = false;
}

// Send a picture; the answer, or what is wrong with it, is shown when it comes.
function send(file) {
  chosen = file;
  asking?.abort();
  for (const id of ["problem", "result"]) $(id).hidden = true;
  if (state && file.size > state.limits.max_bytes) {
    complain("too many bytes", `${file.name} has ${megabytes(file.size)}; at most ${megabytes(state.limits.max_bytes)}`);
    return;
  }
  const request = asking = new XMLHttpRequest();
  request.open("POST", "upscale?format=" + $("format").value);
  request.responseType = "blob";
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.onprogress = event => { if (event.lengthComputable) $("progress").value = event.loaded / event.total };
  request.upload.onload = () => { $("stage").textContent = "Enlarging"; $("progress").removeAttribute("value") };
  request.onload = () => answer(request, file);
  request.onerror = () => complain("no answer", "The connection was lost, or the server has ended.");
  request.onloadend = () => { if (asking === request) { asking = null; $("work").hidden = true } };
  $("stage").textContent = "Sending";
  $("progress").value = 0;
  $("work").hidden = false;
  request.send(file);
}

async function answer(request, file) {
  if (request.status === 200) return picture(request, file);
  try {
    const { error, detail } = JSON.parse(await request.response.text());
    complain(error, detail);
  } catch {
    complain("error " + request.status, request.statusText);
  }
}

const loaded = async address => {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
};

async function picture(request, file) {
  addresses.forEach(URL.revokeObjectURL);
  const [before, after] = addresses = [file, request.response].map(URL.createObjectURL);
  const enlarged = await loaded(after);
  const sent = await loaded(before).catch(() => null);  // a browser shows no TIFF
  const header = name => decodeURIComponent(request.getResponseHeader(name));
  const { naturalWidth: width, naturalHeight: height } = enlarged;
  viewer.style.setProperty("--width", width);
  viewer.style.setProperty("--height", height);
  viewer.querySelector(".front").style.backgroundImage = sent ? `url(${before})` : "";
  viewer.querySelector(".back").style.backgroundImage = `url(${after})`;
  names = [sent ? "as sent" : "not shown by this browser", header("Sisr-Model")];
  show(50);
  const seconds = Number(/upscale;dur=([\d.]+)/.exec(header("Server-Timing"))[1]) / 1000;
  const scale = Number(header("Sisr-Scale"));
  $("about").textContent = `${width / scale}×${height / scale} → ${width}×${height} px, ${megabytes(request.response.size)}, ` +
    `${seconds.toFixed(2)} s, by ${header("Sisr-Model")} version ${header("Sisr-Version")}`;
  $("download").href = after;
  $("download").download = file.name.replace(/\.[^.]*$/, "") + "_x" + scale + "." + $("format").value;
  $("drop").classList.add("small");
  $("result").hidden = false;
}

const first = files => { if (files?.length) send(files[0]) };
$("file").addEventListener("change", event => { first(event.target.files); event.target.value = "" });
$("format").addEventListener("change", () => chosen && send(chosen));
$("cancel").addEventListener("click", () => asking?.abort());
$("zoom").addEventListener("click", () => {
  const actual = $("frame").classList.toggle("actual");
  $("zoom").setAttribute("aria-pressed", actual);
});
for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, event => {
  event.preventDefault();
  $("drop").classList.toggle("over", kind === "dragover");
  if (kind === "drop") first(event.dataTransfer.files);
});
document.addEventListener("paste", event => first(event.clipboardData.files));
learn();
