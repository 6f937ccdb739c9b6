-- Revoke, override or delete a message.
-- KEYS[1]  the log of the shard
-- ARGV     tag, session, who asks, what his request is known by, digest of what he asks,
--          command (1 revoke, 2 override, 3 delete), seqId, packId of the message, content, hide ('1' or '0'),
--          window (µs, 0: none), largest payload, in a group ('1'; '2': which the operator need not be in, and which need
--          not be there; '0': no), dedup_seconds, priority_seconds,
--          step of stamps, the pack of the control without its last 8 bytes, which are the time (ms), and the message as
--          it lies in the archive ('' before that was asked)
-- Returns  status, time (ms), version of the group's members
--          status 1 done, 2 done before, 3 same packId for something else, 4 no such message, 5 not allowed,
--          6 no such group, 7 too long, 8 the archive must be asked
-- All checks come before the first write: Lua has no rollback. A message that is already as it should be stays as it is.
local call, pack, unpack_, format = redis.call, struct.pack, struct.unpack, string.format
local REVOKE, OVERRIDE, DELETE = '1', '2', '3'
local BIN_HEADS = {[196] = 3, [197] = 4, [198] = 6} -- bin8, bin16, bin32, which cmsgpack cannot read
local REVOKED, OVERRIDDEN, DELETED, HIDDEN, COUNTER = 1, 2, 4, 8, 4
local tag, session, operator, field, digest = unpack(ARGV, 1, 5)
local command, seq, target, content, hide = unpack(ARGV, 6, 10)
local window, max_payload, group = tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13] ~= '0'
local dedup_seconds, priority_seconds = tonumber(ARGV[14]), tonumber(ARGV[15])
local step, control = tonumber(ARGV[16]), ARGV[17]
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function set(bits, bit) return bits % (2 * bit) >= bit and bits or bits + bit end

local info = group and call('HMGET', tag .. ':i:' .. session, 'owner', 'version') or {}
local owner, version = info[1] == operator, tonumber(info[2] or 0)

local bucket = math.floor(tonumber(time[1]) / dedup_seconds)
local dedup = tag .. ':d:' .. bucket
local before = call('HGET', dedup, field) or call('HGET', tag .. ':d:' .. (bucket - 1), field)
if before then
  if string.sub(before, 9) ~= digest then return {3, 0, 0} end
  return {2, (unpack_('>I8', before)), version}
end

if ARGV[13] == '1' then
  if not info[1] then return {6, 0, 0} end
  if not call('ZSCORE', tag .. ':p:' .. session, operator) then return {5, 0, 0} end
end

local history, tombstones = tag .. ':h:' .. session, tag .. ':t:' .. session
local entry = call('ZRANGEBYSCORE', history, seq, seq)[1]
if not entry and command == DELETE then entry = call('ZRANGEBYSCORE', tombstones, seq, seq)[1] end
if not entry then
  if call('ZCOUNT', tombstones, seq, seq) > 0 then return {4, 0, 0} end
  local archived = call('HGET', tag .. ':m:' .. session, 'a')
  if not archived or tonumber(seq) > tonumber(archived) then return {4, 0, 0} end
  if ARGV[18] == '' then return {8, 0, 0} end
  entry = ARGV[18]
end
local state, revision, changed, shown, tail = 0, 0, 0, '', string.sub(entry, 25)
if string.byte(entry) == 1 then
  local length
  state, revision, changed, length = unpack_('>BI4I8I4', tail)
  shown, tail = string.sub(tail, 18, 17 + length), string.sub(tail, 18 + length)
end
if command ~= DELETE and state % (2 * DELETED) >= DELETED then return {4, 0, 0} end
local at, kind, flags, found = cmsgpack.unpack_limit(tail, 3, 1) -- behind the head of the array
local payload = string.sub(tail, at + BIN_HEADS[string.byte(tail, at + 1)])
if found ~= target then return {4, 0, 0} end
local message = cmsgpack.unpack(payload)
if not owner then
  if message.from ~= operator then return {5, 0, 0} end
  if window > 0 and now - tonumber(seq) > window then return {5, 0, 0} end
end

local wanted = state
if command == REVOKE then
  wanted = set(wanted, REVOKED)
  if hide == '1' then wanted = set(wanted, HIDDEN) end
elseif command == OVERRIDE then
  if #payload - #(message.content or '') + #content > max_payload then return {7, 0, 0} end
  wanted = set(wanted, OVERRIDDEN)
else
  wanted, content = set(wanted, DELETED), ''
  local parties = cmsgpack.pack({from = message.from, to = message.to}) -- two short texts: it fits a bin8
  tail = '\148' .. cmsgpack.pack(kind, flags, found) .. '\196' .. string.char(#parties) .. parties
end
if command == REVOKE then content = shown end

changed = math.max(math.floor(now / 1000), changed + 1)
local bytes = pack('>I8', changed)
if wanted ~= state or content ~= shown then
  entry = '\1' .. string.sub(entry, 2, 24) .. pack('>BI4I8I4', wanted, revision + 1, changed, #content) .. content .. tail
  call('ZREMRANGEBYSCORE', history, seq, seq)
  call('ZADD', command == DELETE and tombstones or history, seq, entry)
  if command ~= OVERRIDE and flags % (2 * COUNTER) >= COUNTER then call('ZADD', tag .. ':g:' .. session, seq, seq) end
  call('XADD', KEYS[1], '*', 's', session, 'e', entry, 'o', operator)
end
if group then
  local log = tag .. ':c:' .. session
  call('ZADD', log, queue_stamp(tag, log, now, step), control .. bytes)
  call('ZREMRANGEBYSCORE', log, '-inf', format('%.0f', now - priority_seconds * 1000000))
  call('EXPIRE', log, priority_seconds)
  mark(tag, 'queues', session .. '\0' .. control .. bytes)
end
call('HSET', dedup, field, bytes .. digest)
if call('HLEN', dedup) == 1 then call('EXPIRE', dedup, 2 * dedup_seconds) end
return {1, changed, version}
