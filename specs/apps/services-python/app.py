"""Writes a note to each bound service and reads it back: PUT and GET /<offering>/note. All that it knows comes from VCAP_SERVICES."""

import json
import os
import ssl

import pika
import psycopg
import pymysql
import redis
from flask import Flask, jsonify, request

app = Flask(__name__)
CREATE = "CREATE TABLE IF NOT EXISTS notes (id INT PRIMARY KEY, text VARCHAR(200))"


def bound(offering):
    return json.loads(os.environ["VCAP_SERVICES"])[offering][0]["credentials"]


def tls(credentials):
    return ssl.create_default_context(cadata=credentials.get("ca") or credentials["sslrootcert"])


class Sql:
    """Any database with SQL."""

    def put(self, text):
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(CREATE)
            cursor.execute("DELETE FROM notes")
            cursor.execute("INSERT INTO notes VALUES (1, %s)", (text,))
            connection.commit()

    def get(self):
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT text FROM notes WHERE id = 1")
            return cursor.fetchone()[0]


class Postgres(Sql):
    def connect(self):
        # As the libraries of most frameworks do it: one URL.
        return psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5)


class Mysql(Sql):
    def connect(self):
        c = bound("mysql")
        return pymysql.connect(
            host=c["hostname"], port=int(c["port"]), user=c["username"], password=c["password"], database=c["name"],
            ssl=tls(c), connect_timeout=5,
        )


class Redis:
    def connect(self):
        return redis.from_url(bound("redis")["uri"], socket_timeout=5, decode_responses=True)

    def put(self, text):
        self.connect().set("note", text)

    def get(self):
        return self.connect().get("note")


class Rabbitmq:
    def channel(self):
        c = bound("rabbitmq")
        parameters = pika.URLParameters(c["uri"])
        parameters.ssl_options = pika.SSLOptions(tls(c), c["hostname"])
        parameters.socket_timeout = 5
        channel = pika.BlockingConnection(parameters).channel()
        channel.queue_declare("notes", durable=True)
        return channel

    def put(self, text):
        channel = self.channel()
        channel.queue_purge("notes")
        channel.confirm_delivery()  # from here on publishing waits until the message is on disk
        channel.basic_publish("", "notes", text.encode(), pika.BasicProperties(delivery_mode=2))
        channel.connection.close()

    def get(self):
        channel = self.channel()
        frame, _, body = channel.basic_get("notes")
        channel.basic_nack(frame.delivery_tag)
        channel.connection.close()
        return body.decode()


SERVICES = {"postgres": Postgres(), "mysql": Mysql(), "redis": Redis(), "rabbitmq": Rabbitmq()}


@app.get("/")
def hello():
    return jsonify(sorted(json.loads(os.environ["VCAP_SERVICES"])))


@app.get("/env")
def env():
    return jsonify(dict(os.environ))


@app.put("/<offering>/note")
def put(offering):
    SERVICES[offering].put(request.get_data(as_text=True))
    return "kept\n"


@app.get("/<offering>/note")
def get(offering):
    return SERVICES[offering].get()


@app.errorhandler(Exception)
def failed(error):
    return f"{type(error).__name__}: {error}\n", 500
