"""What the peers that have a configuration file are told, so that they answer as redis-proxy does."""

from typing import NamedTuple

# Fields that a server says by itself.
NGINX_SAYS = {"content-type", "content-length", "connection", "keep-alive", "date", "server"}
HAPROXY_SAYS = {"content-type", "content-length"}
CONTENT_TYPE = "text/plain; charset=utf-8"


class Lua(NamedTuple):
    """The cache in nginx' worker: where its code is, how much it holds, and whence."""

    folder: object
    capacity: int
    redis_port: int


def _fields(answer, but):
    """The header fields of an answer, without those of these names, and its body."""
    head, body = answer.decode().split("\r\n\r\n", 1)
    pairs = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
    return [(name, value) for name, value in pairs if name.lower() not in but], body


def nginx(port, answer, work, lua=None):
    """The text of a configuration for one worker."""
    fields, body = _fields(answer, NGINX_SAYS)
    headers = "".join(f"add_header {name} '{value}';" for name, value in fields)
    modules, prepare, answers = "", "", f"return 200 '{body}';"
    if lua:
        modules = "".join(
            f"load_module /usr/lib/nginx/modules/{name}_module.so;" for name in ("ndk_http", "ngx_http_lua"))
        prepare = (
            f"lua_package_path '{lua.folder}/?.lua;/usr/share/lua/5.1/?.lua;;';"
            f"init_worker_by_lua_block {{ require('lrucache').start({lua.capacity}, {lua.redis_port}) }}"
        )
        answers = "content_by_lua_block { require('lrucache').answer() }"
    return f"""{modules}
worker_processes 1; daemon off; pid {work}/nginx-{port}.pid; error_log {work}/nginx-error.log;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600; tcp_nodelay on;
  default_type '{CONTENT_TYPE}';
  client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work}; uwsgi_temp_path {work};
  scgi_temp_path {work};
  {prepare}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {headers} {answers} }} }}
}}
"""


def haproxy(port, answer):
    """The text of a configuration for one thread."""
    fields, body = _fields(answer, HAPROXY_SAYS)
    headers = " ".join(f"hdr {name} {_quoted(value)}" for name, value in fields)
    return f"""global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout client 600s
  timeout http-keep-alive 600s
frontend constant
  bind 127.0.0.1:{port} backlog 4096
  http-request return status 200 content-type {_quoted(CONTENT_TYPE)} string {_quoted(body)} {headers}
"""


def _quoted(text):
    """A word of HAProxy's that is taken as it is: `%` begins a variable there."""
    return "'" + text.replace("%", "%%") + "'"
