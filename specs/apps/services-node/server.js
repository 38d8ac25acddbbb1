// Keeps a note in the bound database: PUT and GET /note. The driver gets DATABASE_URL as it is.
const express = require("express");
const { Pool } = require("pg");

const pool = new Pool({ connectionString: process.env.DATABASE_URL, connectionTimeoutMillis: 5000 });
const app = express();
app.use(express.text({ type: "*/*" }));

app.get("/", (_, response) => response.send("Hello from Node\n"));
app.get("/env", (_, response) => response.json(process.env));
app.put("/note", async (request, response) => {
  await pool.query("CREATE TABLE IF NOT EXISTS node_notes (id INT PRIMARY KEY, text TEXT)");
  await pool.query("INSERT INTO node_notes VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET text = $1", [request.body]);
  response.send("kept\n");
});
app.get("/note", async (_, response) => {
  const { rows } = await pool.query("SELECT text FROM node_notes WHERE id = 1");
  response.send(rows[0].text);
});
app.use((error, _request, response, _next) => response.status(500).send(`${error.name}: ${error.message}\n`));

const server = app.listen(process.env.PORT);
process.on("SIGTERM", () => server.close(() => process.exit(0)));
