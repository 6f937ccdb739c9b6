-- The newest seqId of sessions, 0 for none.
-- KEYS[1]  a key of the shard (any)
-- ARGV     2 per session: tag, session
local result = {}
for i = 1, #ARGV, 2 do
  result[#result + 1] = tonumber(redis.call('HGET', ARGV[i] .. ':m:' .. ARGV[i + 1], 'q') or 0)
end
return result
