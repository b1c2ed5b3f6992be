-- The peer in nginx: lua-resty-lrucache in the worker's memory, and a GET over a cosocket with a pool of connections.
-- Debian has no lua-resty-redis; one GET is these few lines of RESP2.

local lrucache = require "resty.lrucache"

local TTL_SECONDS = 3600
local POOL_SIZE = 64
local POOL_IDLE_MS = 60000

local peer = {}
local cache, redis_port

function peer.start(capacity, port)
  cache, redis_port = assert(lrucache.new(capacity)), port
end

local function get(key)
  local socket = ngx.socket.tcp()
  assert(socket:connect("127.0.0.1", redis_port))
  assert(socket:send("*2\r\n$3\r\nGET\r\n$" .. #key .. "\r\n" .. key .. "\r\n"))
  local line = assert(socket:receive())
  local length = tonumber(line:match("^%$(-?%d+)$"))
  if not length then error(line) end
  local value
  if length >= 0 then
    value = assert(socket:receive(length))
    assert(socket:receive(2))
  end
  assert(socket:setkeepalive(POOL_IDLE_MS, POOL_SIZE))
  return value
end

function peer.answer()
  local key = ngx.var.uri:sub(2)
  local value = cache:get(key)
  if not value then
    value = get(key)
    if not value then
      return ngx.exit(404)
    end
    cache:set(key, value, TTL_SECONDS)
  end
  ngx.header["Content-Length"] = #value
  ngx.print(value)
end

return peer
