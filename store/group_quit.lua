-- Remove members of a group: all of the list or none. Who is not in is passed over.
-- KEYS[1]  the group's info
-- ARGV     tag, group, who asks, then the users, each once
-- Returns  status, version, newest seqId, then the users that were removed
--          status 0 done, 2 no such group, 5 only the owner may remove others, and the owner not himself
local call, format = redis.call, string.format
local tag, group, actor = ARGV[1], ARGV[2], ARGV[3]
local info = call('HMGET', KEYS[1], 'version', 'owner')
if not info[1] then return {2, 0, 0} end
for i = 4, #ARGV do
  if ARGV[i] == info[2] or (ARGV[i] ~= actor and actor ~= info[2]) then return {5, 0, 0} end
end
local members, meta = tag .. ':p:' .. group, tag .. ':m:' .. group
local result = {0, tonumber(info[1]), tonumber(call('HGET', meta, 'q') or 0)}
for i = 4, #ARGV do
  if call('ZREM', members, ARGV[i]) == 1 then
    call('HDEL', meta, 'r:' .. ARGV[i])
    result[#result + 1] = ARGV[i]
    mark(tag, 'members', group .. '\0' .. ARGV[i])
    mark(tag, 'positions', group .. '\0' .. ARGV[i])
  end
end
if #result > 3 then
  mark(tag, 'chat_groups', group)
  local time = call('TIME')
  call('HSET', KEYS[1], 'updated', format('%.0f', math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000)))
  result[2] = call('HINCRBY', KEYS[1], 'version', 1)
  tell(tag, group)
end
return result
