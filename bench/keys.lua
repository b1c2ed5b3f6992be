-- What wrk asks for: `wrk -s keys.lua URL -- CHOICE DEPTH SPACE`. Each write is DEPTH requests.
--   one      the path of URL
--   uniform  /key:N, each N below SPACE as likely as the other
--   walk     /key:0, /key:1, ... and from the start again
--   zipf     /key:N, N = 0 the most frequent, exponent 0.99

local host

local function request_of(number)
  return "GET /key:" .. number .. " HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n"
end

-- Draws are made beforehand, and used in turn: a binary search a request would be the load's, not the server's, time.
local function zipf(space)
  local sums, sum = {}, 0
  for rank = 1, space do
    sum = sum + rank ^ -0.99
    sums[rank] = sum
  end
  local draws = {}
  for draw = 1, 1000000 do
    local wanted, low, high = math.random() * sum, 1, space
    while low < high do
      local middle = math.floor((low + high) / 2)
      if sums[middle] < wanted then low = middle + 1 else high = middle end
    end
    draws[draw] = request_of(low - 1)
  end
  local at = 0
  return function()
    at = at % #draws + 1
    return draws[at]
  end
end

local choices = {
  one = function()
    local only = wrk.format()
    return function() return only end
  end,
  uniform = function(space)
    return function() return request_of(math.random(0, space - 1)) end
  end,
  walk = function(space)
    local number = -1
    return function()
      number = (number + 1) % space
      return request_of(number)
    end
  end,
  zipf = zipf,
}

function init(arguments)
  host = wrk.host .. ":" .. wrk.port
  local choice, depth = arguments[1], tonumber(arguments[2])
  local one = choices[choice](tonumber(arguments[3]))
  if depth == 1 then
    request = one
  elseif choice == "one" then
    local batch = string.rep(one(), depth)
    request = function() return batch end
  else
    request = function()
      local batch = {}
      for number = 1, depth do batch[number] = one() end
      return table.concat(batch)
    end
  end
end
