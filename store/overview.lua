-- What a user sees of sessions: read position, unread, newest message.
-- KEYS[1]  a key of the shard (any)
-- ARGV     user, then 2 per session: tag, session
-- Returns  3 per session: read seqId (text), unread, newest entry (or false: there is none, or he is not in this group; or
--          a number: the newest lies in the archive, at or below it)
-- unread = countable messages after the read position, without those that are gone (revoked, deleted).
-- Whoever has a read position in a group is in it: leaving takes it away. Who joined before the first message has none.
local call, match, sub = redis.call, string.match, string.sub
local user, field = ARGV[1], 'r:' .. ARGV[1]
local result, at = {}, 0
for i = 2, #ARGV, 2 do
  local tag, session = ARGV[i], ARGV[i + 1]
  local read_seq, unread, newest = '0', 0, nil
  local meta = call('HMGET', tag .. ':m:' .. session, 'n', field, 'a')
  if meta[2] or sub(session, 1, 3) ~= 'GC_' or call('ZSCORE', tag .. ':p:' .. session, user) then
    local seq, n = match(meta[2] or '0:0', '^(%d+):(%d+)$')
    read_seq = seq
    if n ~= meta[1] then
      unread = math.max(0, tonumber(meta[1] or 0) - tonumber(n))
      if unread > 0 then
        unread = math.max(0, unread - call('ZCOUNT', tag .. ':g:' .. session, '(' .. seq, '+inf'))
      end
    end
    newest = call('ZREVRANGE', tag .. ':h:' .. session, '0', '0', 'WITHSCORES')
    if meta[3] and tonumber(newest[2] or 0) <= tonumber(meta[3]) then
      newest = tonumber(meta[3])
    else
      newest = newest[1]
    end
  end
  result[at + 1], result[at + 2], result[at + 3] = read_seq, unread, newest or false
  at = at + 3
end
return result
