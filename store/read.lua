-- Move read positions forward, never past the newest message.
-- KEYS[1]  a key of the shard (any)
-- ARGV     '1' when other systems are told, else '0'; then 6 per item: tag, session, user, seqId, in a group ('1' or '0'),
--          "seqId:n" of the greatest message up to the seqId as the archive says it ('' before it was asked)
-- Returns  2 per item: status, seqId up to which he has read now
--          status 1 moved, 2 was there already, 3 no such group, 4 not a member of it, 5 the archive must be asked
-- The position is that of a message or of a tombstone: the greatest one up to the seqId. Its n makes unread exact.
local call, format = redis.call, string.format

local function greatest(key, seq, above)
  return call('ZREVRANGEBYSCORE', key, seq, above, 'LIMIT', '0', '1')[1]
end

local function numbers(entry)
  if not entry then return -1, 0 end
  local seq, _, n = struct.unpack('>I8I8I8', '\0' .. string.sub(entry, 2, 24))
  return seq, n
end

local function tell(tag, session, user, seq)
  local data = '{"session_id":"' .. session .. '","user_id":"' .. user .. '","seq_id":' .. seq .. '}'
  happened(tag, session, 'message.read', 'read-' .. session .. '-' .. user .. '-' .. seq, data)
end

local function read(tag, session, user, seq, group, known)
  if group == '1' then
    if call('EXISTS', tag .. ':i:' .. session) == 0 then return 3, 0 end
    if not call('ZSCORE', tag .. ':p:' .. session, user) then return 4, 0 end
  end
  local meta = tag .. ':m:' .. session
  local head = call('HMGET', meta, 'r:' .. user, 'a')
  local position, above = tonumber(string.match(head[1] or '0:0', '^%d+')), head[2] and '(' .. head[2] or '-inf'
  if tonumber(seq) <= position then return 2, position end
  local at, n = numbers(greatest(tag .. ':h:' .. session, seq, above))
  local deleted, deleted_n = numbers(greatest(tag .. ':t:' .. session, seq, above))
  if deleted > at then at, n = deleted, deleted_n end
  if at < 0 and head[2] then
    if known == '' then return 5, position end
    at, n = string.match(known, '^(%d+):(%d+)$')
    at, n = tonumber(at), tonumber(n)
  end
  if at <= position then return 2, position end
  call('HSET', meta, 'r:' .. user, format('%.0f:%.0f', at, n))
  mark(tag, 'positions', session .. '\0' .. user)
  if ARGV[1] == '1' then tell(tag, session, user, format('%.0f', at)) end
  return 1, at
end

local result = {}
for i = 2, #ARGV, 6 do
  local at = #result
  result[at + 1], result[at + 2] = read(unpack(ARGV, i, i + 5))
end
return result
