// Show an OpenAPI description: each operation with its options, bodies, answers and their headers.
function element(name, text, ...children) {
  const made = document.createElement(name);
  made.append(text, ...children);
  return made;
}

function table(title, rows) {
  if (!rows.length) return "";
  const body = element("tbody", "", ...rows.map(([name, text]) => element("tr", "", element("th", name), element("td", text))));
  return element("div", "", element("h3", title), element("table", "", body));
}

function values(schema) {
  const inside = schema.anyOf?.find(each => each.type !== "null") ?? schema;
  const range = inside.minimum === undefined ? inside.type : `${inside.minimum} to ${inside.maximum}`;
  const usual = schema.default == null ? "" : `; default ${schema.default}`;
  return (inside.enum?.join(", ") ?? range) + usual;
}

function fields(schema, all) {
  const known = schema?.$ref ? all[schema.$ref.split("/").pop()] : schema;
  return Object.entries(known?.properties ?? {}).map(([name, field]) => [name, field.description ?? values(field)]);
}

function operation(path, method, found, all) {
  const title = element("h2", "", element("span", method.toUpperCase()), " ", element("code", path), " ", found.summary ?? "");
  title.firstElementChild.className = "method";
  const answers = Object.entries(found.responses).sort();
  const content = answer => Object.keys(answer.content ?? {}).join(", ");
  const problem = answers.find(([code]) => code >= "400")?.[1].content?.["application/json"].schema;
  const good = found.responses["200"];
  return element("section", "", title, element("p", found.description ?? ""),
    table("Options", (found.parameters ?? []).map(p => [p.name, `${p.description ?? ""} (${values(p.schema)})`])),
    table("Body", Object.entries(found.requestBody?.content ?? {}).map(([type, body]) =>
      [type, fields(body.schema, all).map(([name]) => "field " + name).join(", ") || "the file itself"])),
    table("Answers", answers.map(([code, answer]) => [code, `${answer.description} ${content(answer)}`])),
    table("Headers of the answer", Object.entries(good.headers ?? {}).map(([name, header]) => [name, header.description])),
    table("Fields of the answer", fields(good.content?.["application/json"]?.schema, all)),
    table("Fields of an error", good.headers ? fields(problem, all) : []));
}

async function main() {
  const here = new URL(".", location.href).href;
  document.getElementById("example").textContent =
    `curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' ${here}upscale -o large.png\n` +
    `curl -F image=@photo.jpg '${here}upscale?format=webp&quality=90' -o large.webp`;
  const description = await (await fetch("openapi.json")).json();
  const all = description.components?.schemas ?? {};
  for (const [path, methods] of Object.entries(description.paths))
    for (const [method, found] of Object.entries(methods))
      document.getElementById("operations").append(operation(path, method, found, all));
}

main();
