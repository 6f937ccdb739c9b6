-- A page of a group's members, in the order of joining, for one of them.
-- KEYS[1]  the group's info
-- ARGV     tag, group, who asks, seqId and user of the last one known ('' = from the start), count
-- Returns  status, then user and seqId alternately. Status: 0 done, 2 no such group, 6 not a member
-- When the last one known has left meanwhile, those that joined together with him come again.
local call = redis.call
local members = ARGV[1] .. ':p:' .. ARGV[2]
if call('EXISTS', KEYS[1]) == 0 then return {2} end
if not call('ZSCORE', members, ARGV[3]) then return {6} end
local start = 0
if ARGV[5] ~= '' then
  local rank = call('ZRANK', members, ARGV[5])
  start = rank and rank + 1 or call('ZCOUNT', members, '-inf', '(' .. ARGV[4])
end
local result = call('ZRANGE', members, start, start + tonumber(ARGV[6]) - 1, 'WITHSCORES')
table.insert(result, 1, 0)
return result
