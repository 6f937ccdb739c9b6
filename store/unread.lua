-- How much of sessions a user has not read, in all: as overview.lua counts it.
-- KEYS[1]  a key of the shard (any); ARGV  user, then 2 per session: tag, session
local call, match, sub = redis.call, string.match, string.sub
local field, total = 'r:' .. ARGV[1], 0
for i = 2, #ARGV, 2 do
  local tag, session = ARGV[i], ARGV[i + 1]
  local meta = call('HMGET', tag .. ':m:' .. session, 'n', field)
  if meta[1] and (meta[2] or sub(session, 1, 3) ~= 'GC_' or call('ZSCORE', tag .. ':p:' .. session, ARGV[1])) then
    local seq, n = match(meta[2] or '0:0', '^(%d+):(%d+)$')
    local unread = tonumber(meta[1]) - tonumber(n)
    if unread > 0 then
      total = total + math.max(0, unread - call('ZCOUNT', tag .. ':g:' .. session, '(' .. seq, '+inf'))
    end
  end
end
return total
