-- Change the info of a group.
-- KEYS[1]  the group's info
-- ARGV     tag, group, who asks, then 2 per change: field, value
-- Returns  status, version. Status: 0 done, 2 no such group, 4 has more members than the new limit, 5 not the owner
local call, format = redis.call, string.format
local info = call('HMGET', KEYS[1], 'version', 'owner')
if not info[1] then return {2, 0} end
if ARGV[3] ~= info[2] then return {5, 0} end
for i = 4, #ARGV, 2 do
  if ARGV[i] == 'limit' and call('ZCARD', ARGV[1] .. ':p:' .. ARGV[2]) > tonumber(ARGV[i + 1]) then return {4, 0} end
end
for i = 4, #ARGV, 2 do call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
local time = call('TIME')
call('HSET', KEYS[1], 'updated', format('%.0f', math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000)))
mark(ARGV[1], 'chat_groups', ARGV[2])
tell(ARGV[1], ARGV[2])
return {0, tonumber(info[1])}
