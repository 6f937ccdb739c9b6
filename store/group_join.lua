-- Add members to a group: all of the list or none. Who is in already is passed over.
-- KEYS[1]  the group's info
-- ARGV     tag, group, who asks, then the users, each once
-- Returns  status, version, newest seqId, then the users that are new
--          status 0 done, 2 no such group, 3 no right, 4 more than the limit
-- A new member has read everything so far: his position is the newest message, so his unread is 0.
local call, format = redis.call, string.format
local tag, group, actor = ARGV[1], ARGV[2], ARGV[3]
local info = call('HMGET', KEYS[1], 'version', 'owner', 'limit', 'mode')
if not info[1] then return {2, 0, 0} end
local members, meta = tag .. ':p:' .. group, tag .. ':m:' .. group
if actor ~= info[2] then
  local himself = info[4] == '2' and #ARGV == 4 and ARGV[4] == actor
  if info[4] == '1' or not (himself or call('ZSCORE', members, actor)) then return {3, 0, 0} end
end
local head = call('HMGET', meta, 'q', 'n')
local seq, n = head[1] or '0', head[2] or '0'
local result = {0, tonumber(info[1]), tonumber(seq)}
for i = 4, #ARGV do
  if not call('ZSCORE', members, ARGV[i]) then result[#result + 1] = ARGV[i] end
end
if #result == 3 then return result end
if call('ZCARD', members) + #result - 3 > tonumber(info[3]) then return {4, 0, 0} end
for i = 4, #result do
  call('ZADD', members, seq, result[i])
  if seq ~= '0' then call('HSET', meta, 'r:' .. result[i], seq .. ':' .. n) end
  mark(tag, 'members', group .. '\0' .. result[i])
  mark(tag, 'positions', group .. '\0' .. result[i])
end
mark(tag, 'chat_groups', group)
local time = call('TIME')
call('HSET', KEYS[1], 'updated', format('%.0f', math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000)))
result[2] = call('HINCRBY', KEYS[1], 'version', 1)
tell(tag, group)
return result
