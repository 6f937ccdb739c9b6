-- Note activity in sessions for users. Harmless when run twice: a later stamp for the same session.
-- KEYS[1]  the stamp key of this shard of users
-- ARGV     2 per item: key of the user's recent sessions, session
-- Stamps are µs, strictly increasing within the shard even when the clock steps back, so a cursor never skips one.
local time = redis.call('TIME')
local stamp = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(redis.call('GET', KEYS[1]) or 0) + 1)
for i = 1, #ARGV, 2 do
  redis.call('ZADD', ARGV[i], string.format('%.0f', stamp), ARGV[i + 1])
  stamp = stamp + 1
end
redis.call('SET', KEYS[1], string.format('%.0f', stamp))
return 1
