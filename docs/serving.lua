-- wrk's script: every request posts the picture named by the environment variable PICTURE.
local file = assert(io.open(os.getenv("PICTURE"), "rb"))
wrk.method = "POST"
wrk.path = "/upscale"
wrk.headers["Content-Type"] = "image/png"
wrk.body = file:read("*a")
