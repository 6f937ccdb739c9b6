-- What a user sees of sessions: head, read position, what is gone, newest message.
-- KEYS[1]  a key of the shard (any)
-- ARGV     user, then 2 per session: tag, session
-- Returns  5 per session: n of the head, read seqId, read n, gone after the read position, newest entry (or false:
--          there is none, or the session is a group and he is not a member)
local user = ARGV[1]
local result, at = {}, 0
for i = 2, #ARGV, 2 do
  local tag, session = ARGV[i], ARGV[i + 1]
  local meta = redis.call('HMGET', tag .. ':m:' .. session, 'n', 'r:' .. user)
  local read_seq, read_n = string.match(meta[2] or '0:0', '^(%d+):(%d+)$')
  local gone = redis.call('ZCOUNT', tag .. ':g:' .. session, '(' .. read_seq, '+inf')
  local newest
  if string.sub(session, 1, 3) ~= 'GC_' or redis.call('ZSCORE', tag .. ':p:' .. session, user) then
    newest = redis.call('ZREVRANGE', tag .. ':h:' .. session, 0, 0)[1]
  end
  result[at + 1], result[at + 2], result[at + 3] = meta[1] or '0', read_seq, read_n
  result[at + 4], result[at + 5] = gone, newest or false
  at = at + 5
end
return result
