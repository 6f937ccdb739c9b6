-- Make a group with its first members, once.
-- KEYS[1]  the group's info
-- ARGV     tag, group, owner, limit, mode, name, avatar, desc, then the members, each once, the owner among them;
--          and of all changes last an event (group_told.lua)
-- Returns  status, version, newest seqId. Status: 0 made, 1 made before, 2 dismissed since, 4 more than the limit
-- The version starts at the clock's µs, so that of a group made again is above all that it had.
local call, format = redis.call, string.format
local tag, group = ARGV[1], ARGV[2]
local before = call('HGET', KEYS[1], 'version')
if before then return {1, tonumber(before), tonumber(call('HGET', tag .. ':m:' .. group, 'q') or 0)} end
if call('EXISTS', tag .. ':x:' .. group) == 1 then return {2, 0, 0} end
if #ARGV - 8 > tonumber(ARGV[4]) then return {4, 0, 0} end
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local ms = format('%.0f', math.floor(now / 1000))
local meta = tag .. ':m:' .. group
local head = call('HMGET', meta, 'q', 'n')
local seq, n = head[1] or '0', head[2] or '0'
call('HSET', KEYS[1], 'owner', ARGV[3], 'limit', ARGV[4], 'mode', ARGV[5], 'name', ARGV[6], 'avatar', ARGV[7],
  'desc', ARGV[8], 'created', ms, 'updated', ms, 'version', format('%.0f', now))
for i = 9, #ARGV do
  call('ZADD', tag .. ':p:' .. group, seq, ARGV[i])
  if seq ~= '0' then call('HSET', meta, 'r:' .. ARGV[i], seq .. ':' .. n) end
  mark(tag, 'members', group .. '\0' .. ARGV[i])
  mark(tag, 'positions', group .. '\0' .. ARGV[i])
end
mark(tag, 'chat_groups', group)
tell(tag, group)
return {0, now, tonumber(seq)}
