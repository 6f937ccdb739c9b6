-- Note that brokers are there, and say when each was last.
-- KEYS[1]  hash: broker -> ms
-- ARGV     how many are to be forgotten, then 2 for each: broker, the ms that it must have; then those that are there
-- Returns  ms now, then 2 per broker: itself, the ms at which it was last there
local key, call = KEYS[1], redis.call
local time = call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local here = 2 + 2 * tonumber(ARGV[1])
for i = 2, here - 1, 2 do
  if call('HGET', key, ARGV[i]) == ARGV[i + 1] then call('HDEL', key, ARGV[i]) end
end
for i = here, #ARGV do call('HSET', key, ARGV[i], now) end
return {now, unpack(call('HGETALL', key))}
