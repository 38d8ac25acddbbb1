const express = require("express");
const log = require("pino")();

const app = express();
app.get("/", (_, response) => response.send("Hello from Node\n"));
app.get("/env", (_, response) => response.json(process.env));
app.get("/version", (_, response) => response.send(process.version + "\n"));

const server = app.listen(process.env.PORT, () => log.info({ port: process.env.PORT }, "listening"));
process.on("SIGTERM", () => {
  log.info("stopping");
  server.close(() => process.exit(0));
});
