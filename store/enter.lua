-- Give logins their numbers: of one user and device type the highest stays.
-- KEYS[1]  a key of the shard (any)
-- ARGV     2 per login: key of the user's logins, device type
-- Numbers are µs of the clock or the last one + 1: they grow even after the data were lost.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local result = {}
for i = 1, #ARGV, 2 do
  local number = math.max(now, tonumber(redis.call('HGET', ARGV[i], ARGV[i + 1]) or 0) + 1)
  redis.call('HSET', ARGV[i], ARGV[i + 1], string.format('%.0f', number))
  result[#result + 1] = number
end
return result
