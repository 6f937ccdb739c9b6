-- Read queues of what must not be missed.
-- KEYS[1]  a key of the shard (any)
-- ARGV     user, count, bytes, seconds that items are kept,
--          then 3 per queue: queue, stamp after which to read, members of its group ('' where it is the user's own)
-- Returns  per queue a list: stamp, item, ... ascending; at most `count` items, or as many as make up `bytes`
local call, format = redis.call, string.format
local CHUNK = 20
local user, count, bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = call('TIME')
local oldest = tonumber(time[1]) * 1000000 + tonumber(time[2]) - tonumber(ARGV[4]) * 1000000

local function read(queue, after)
  local found, at, left, size = {}, 0, count, 0
  after = format('%.0f', math.max(tonumber(after), oldest))
  while left > 0 and size < bytes do
    local limit = math.min(left, CHUNK)
    local part = call('ZRANGEBYSCORE', queue, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', '0', limit)
    for i = 1, #part, 2 do
      found[at + 1], found[at + 2] = part[i + 1], part[i]
      at, size = at + 2, size + #part[i]
    end
    if #part < 2 * limit then break end
    after, left = part[#part], left - limit
  end
  return found
end

local result = {}
for i = 5, #ARGV, 3 do
  local mine = ARGV[i + 2] == '' or call('ZSCORE', ARGV[i + 2], user)
  result[#result + 1] = mine and read(ARGV[i], ARGV[i + 1]) or {}
end
return result
