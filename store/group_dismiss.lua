-- End a group. Its messages stay. For a while a mark stays too, by which a repeat is known.
-- KEYS[1]  the group's info
-- ARGV     tag, group, who asks, seconds that the mark stays
-- Returns  status, version, newest seqId, then the users that were members
--          status 0 done, 1 done before by him, 2 no such group, 5 not the owner
local call = redis.call
local tag, group, actor = ARGV[1], ARGV[2], ARGV[3]
local info = call('HMGET', KEYS[1], 'version', 'owner')
local ended = tag .. ':x:' .. group
if not info[1] then return {call('GET', ended) == actor and 1 or 2, 0, 0} end
if actor ~= info[2] then return {5, 0, 0} end
local members, meta = tag .. ':p:' .. group, tag .. ':m:' .. group
local result = {0, tonumber(info[1]), tonumber(call('HGET', meta, 'q') or 0)}
for i, user in ipairs(call('ZRANGE', members, 0, -1)) do
  result[i + 3] = user
  call('HDEL', meta, 'r:' .. user)
end
call('UNLINK', KEYS[1], members)
mark(tag, 'chat_groups', group) -- its members and positions go with it
tell(tag, group)
call('SET', ended, actor, 'EX', ARGV[4])
return result
