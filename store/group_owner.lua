-- Hand a group over to one of its members.
-- KEYS[1]  the group's info
-- ARGV     tag, group, who asks, the new owner
-- Returns  status, version. Status: 0 done, 1 done before by him, 2 no such group, 5 not the owner, 6 not a member
local call, format = redis.call, string.format
local info = call('HMGET', KEYS[1], 'version', 'owner', 'handed')
if not info[1] then return {2, 0} end
local version = tonumber(info[1])
if ARGV[4] == info[2] and (ARGV[3] == info[3] or ARGV[3] == info[2]) then return {1, version} end
if ARGV[3] ~= info[2] then return {5, 0} end
if not call('ZSCORE', ARGV[1] .. ':p:' .. ARGV[2], ARGV[4]) then return {6, 0} end
local time = call('TIME')
call('HSET', KEYS[1], 'owner', ARGV[4], 'handed', ARGV[3],
  'updated', format('%.0f', math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000)))
mark(ARGV[1], 'chat_groups', ARGV[2])
tell(ARGV[1], ARGV[2])
return {0, version}
