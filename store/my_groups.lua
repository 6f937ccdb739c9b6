-- Note in users' lists of groups that they are members of one, or no longer. Harmless when run twice.
-- KEYS[1]  the stamp key of this shard of users
-- ARGV     group, then 2 per user: key of his groups, '1' (member) or '0'
-- Stamps are those of recent.lua: µs, strictly increasing within the shard.
local call, format = redis.call, string.format
local time = call('TIME')
local stamp = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(call('GET', KEYS[1]) or 0) + 1)
local first = stamp
for i = 2, #ARGV, 2 do
  local tag, _, user = parts_of(ARGV[i])
  mark(tag, 'user_groups', user .. '\0' .. ARGV[1])
  if ARGV[i + 1] == '0' then
    call('ZREM', ARGV[i], ARGV[1])
  elseif call('ZADD', ARGV[i], 'NX', format('%.0f', stamp), ARGV[1]) == 1 then
    stamp = stamp + 1
  end
end
if stamp > first then call('SET', KEYS[1], format('%.0f', stamp - 1)) end
return 1
