-- Messages of a session, for a reader.
-- KEYS[1]  history of the session
-- ARGV     tag, session, the member who asks ('' = it is no group), upper bound of the seqId (inclusive), count
-- Returns  seqId up to which messages lie in the archive (text, '0': none), entries above it, newest first, and where
--          fewer than `count` are left here: entries and tombstones of archived messages that were changed lately
--          (the archive may not know it yet); false when he is not a member
local call = redis.call
local tag, session, member, top, count = unpack(ARGV)
if member ~= '' and not call('ZSCORE', tag .. ':p:' .. session, member) then return false end
local archived = call('HGET', tag .. ':m:' .. session, 'a') or '0'
local found = call('ZREVRANGEBYSCORE', KEYS[1], top, '(' .. archived, 'LIMIT', '0', count)
if archived == '0' or #found >= tonumber(count) then return {archived, found} end
local bound = archived
if top ~= '+inf' and tonumber(top) < tonumber(archived) then bound = top end
return {
  archived, found, call('ZREVRANGEBYSCORE', KEYS[1], bound, '-inf', 'LIMIT', '0', count),
  call('ZREVRANGEBYSCORE', tag .. ':t:' .. session, bound, '-inf', 'LIMIT', '0', '1000'),
}
