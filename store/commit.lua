-- Store the messages of one turn. What fails of one session leaves the others alone.
-- KEYS[1]  a key of the shard (any), so that a Cluster routes the script
-- ARGV     floor, require_friend, dedup_seconds, log_keep_ms, step of stamps, and the messages: msgpack, a column each of
--          tag, session, sender, peer ('' = no relation to check, '#' = the sender must be a member of this group; an app
--          needs no friends),
--          digest of session, sender and packId, crc (4 bytes), marks, tail, keys of
--          the recent sessions it is noted in ('' = none; several are separated by spaces, and lie in other shards);
--          marks: 1 it counts as unread, 2 it goes to its group's priority queue, 3 both, 0 neither; and 4 more:
--          it is sent again, perhaps after so long that only the archive knows it
-- Returns  columns as well: status, seqId, prevSeqId, membership version (of a group just checked, else 0)
--          status 1 stored, 2 stored before, 3 same packId with other content, 4 not friends, 5 blocked,
--          6 no such group, 7 not a member of it, 8 stored before and revoked, overridden or deleted since,
--          9 the archive must be asked whether it was stored before, 10 behind such a one,
--          0 error (its text in place of the version)
-- A message is: checks, then history and head, then log and dedup. Nothing is written before all checks passed: Lua has
-- no rollback. A command costs more than what it does with a message: so digests are looked up and kept by shard, history
-- and head are written by session, and messages of a shard share a row of its log (store/log.py).
local call, pack, unpack_, format = redis.call, struct.pack, struct.unpack, string.format
local TRIM_EVERY = 32 -- the log is cut with one row in so many: each time costs 1.5 µs
local IN_ROW = 8 -- messages of a row, at most: `[store] log_rows` counts rows
local PRIORITY_SECONDS = 2592000 -- 30 days, as in priority.py
local floor, require_friend = tonumber(ARGV[1]), ARGV[2] == '1'
local dedup_seconds, log_keep_ms, step = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local bucket = math.floor(tonumber(time[1]) / dedup_seconds)
-- As text once: a number costs more in a string or a command than most of what is done with it.
local dedup_now, dedup_before = ':d:' .. bucket, ':d:' .. (bucket - 1)
local remembered = format('%.0f', now - dedup_seconds * 1000000) -- what is stored since is in the dedup
local log_floor = format('%.0f', math.floor(now / 1000) - log_keep_ms)
-- Columns: what is asked, what is answered, and more of what is stored.
local tag_of, session_of, sender_of, peer_of, digest_of, crc_of, marks_of, tail_of, recent_of =
  unpack(cmsgpack.unpack(ARGV[6]))
local status_of, seq_of, prev_of, extra_of = {}, {}, {}, {}
local entry_of, n_of = {}, {}
local known_by = {} -- what is kept by a digest: seqId and prevSeqId packed, then the crc
local is_new = {} -- digests of what this very script stores
local shards = {} -- by tag: numbers of its messages; their digests; the row that is gathered
local sessions, order = {}, {} -- by name; names in the order in which they came

local function number(n) return format('%.0f', n) end

-- ---- what is known before anything is written

local function look_up(tag, digests)
  local here = call('HMGET', tag .. dedup_now, unpack(digests))
  local before = call('HMGET', tag .. dedup_before, unpack(digests))
  for k = 1, #digests do known_by[digests[k]] = here[k] or before[k] or nil end
end

local function look_up_all()
  for i = 1, #tag_of do
    local shard = shards[tag_of[i]]
    if not shard then
      shard = {digests = {}}
      shards[tag_of[i]] = shard
    end
    local k = #shard + 1
    shard[k], shard.digests[k] = i, digest_of[i]
  end
  for tag, shard in pairs(shards) do
    local ok, trouble = pcall(look_up, tag, shard.digests)
    if not ok then shard.failed = trouble end
  end
end

-- What is known of a session; its own items are scores and entries, as ZADD takes them.
local function opened(tag, session, head)
  local last = tonumber(head[1] or 0)
  local known = {tag = tag, last = last, stored = last, n = tonumber(head[2] or 0)}
  sessions[session], order[#order + 1] = known, session
  return known
end

-- The session of a message, and whether its sender may write there: 0, or the status that refuses it. What was found for
-- the sender before this one is not looked up again.
local function admitted(tag, session, sender, peer)
  local meta, known = tag .. ':m:' .. session, sessions[session]
  if known and (peer == '' or known.admitted == sender) then return known, 0 end
  if peer == '' then return opened(tag, session, call('HMGET', meta, 'q', 'n')), 0 end
  if peer == '#' then
    local version = call('HGET', tag .. ':i:' .. session, 'version')
    if not version then return known, 6 end
    if not call('ZSCORE', tag .. ':p:' .. session, sender) then return known, 7 end
    known = known or opened(tag, session, call('HMGET', meta, 'q', 'n'))
    known.version = tonumber(version)
  else
    local head
    if require_friend and string.sub(session, 1, 3) ~= 'BM_' then
      head = call('HMGET', meta, 'q', 'n', 'b:' .. peer, 'f:' .. sender)
      if not (head[3] or head[4]) then return known, 4 end
    else
      head = call('HMGET', meta, 'q', 'n', 'b:' .. peer)
    end
    if head[3] then return known, 5 end
    known = known or opened(tag, session, head)
  end
  known.admitted = sender
  return known, 0
end

-- Status, seqId, prevSeqId of what was stored before.
local function repeated(tag, session, digest, crc)
  local before = known_by[digest]
  local seq, prev = unpack_('>I8I8', before)
  if string.sub(before, 17) ~= crc then return 3, 0, 0 end
  if is_new[digest] then return 2, seq, prev end
  local entry = call('ZRANGEBYSCORE', tag .. ':h:' .. session, number(seq), number(seq))[1]
  return (entry and string.byte(entry) == 0) and 2 or 8, seq, prev
end

-- Whether the archive may know a message that is sent again: of before what the dedup remembers.
local function may_be_archived(known, session)
  local tag = known.tag
  return known.stored > 0 and (call('HEXISTS', tag .. ':m:' .. session, 'a') == 1
    or call('ZCOUNT', tag .. ':h:' .. session, '-inf', remembered) > 0
    or call('ZCOUNT', tag .. ':t:' .. session, '-inf', remembered) > 0)
end

local broken, asked = {}, {}

-- What becomes of a message, as the script returns it.
local function judged(i)
  local tag, session, sender, digest, marks = tag_of[i], session_of[i], sender_of[i], digest_of[i], marks_of[i]
  -- Nothing may overtake a message of its session that failed.
  if broken[session] then return 0, 0, 0, 'behind a failed message' end
  if asked[session] then return 10, 0, 0, 0 end
  local shard = shards[tag]
  if shard.failed then error(shard.failed, 0) end
  if known_by[digest] then
    local status, seq, prev = repeated(tag, session, digest, crc_of[i])
    return status, seq, prev, 0
  end
  local known, refused = admitted(tag, session, sender, peer_of[i])
  if refused > 0 then return refused, 0, 0, 0 end
  if marks > 3 then
    if may_be_archived(known, session) then
      asked[session] = true
      return 9, 0, 0, 0
    end
    marks = marks - 4
  end
  -- A µs further for each message: none of two sessions has the same number, as far as one server stores them.
  local last = known.last
  local seq = math.max(last + 1, now + i - 1, floor)
  if marks % 2 == 1 then known.n = known.n + 1 end
  local entry, at = pack('>I8I8I8c0', seq, last, known.n, tail_of[i]), #known
  known[at + 1], known[at + 2], known.last = seq, entry, seq
  if known.sender and known.sender ~= sender then
    known.senders = known.senders or {}
    known.senders[known.sender] = known.newest
  end
  known.sender, known.newest = sender, i
  if marks > 1 then known.urgent = known.urgent or {}; table.insert(known.urgent, number(seq)) end
  entry_of[i], n_of[i], known_by[digest] = entry, known.n, pack('>I8I8c0', seq, last, crc_of[i])
  is_new[digest] = true
  return 1, seq, last, peer_of[i] == '#' and known.version or 0
end

-- ---- writing

-- As enqueue.lua does it, but with the message.
local function prioritize(tag, session, seq_text)
  local queue, item = tag .. ':c:' .. session, seq_text .. ' ' .. session
  call('ZADD', queue, queue_stamp(tag, queue, now, step), item)
  call('ZREMRANGEBYSCORE', queue, '-inf', number(now - PRIORITY_SECONDS * 1000000))
  call('EXPIRE', queue, PRIORITY_SECONDS)
  local _, _, owner = parts_of(queue)
  mark(tag, 'queues', owner .. '\0' .. item)
end

-- How far a sender has read: his own newest message.
local function read_by(i) return format('%.0f:%.0f', seq_of[i], n_of[i]) end

local function write_session(session, known)
  local tag, meta = known.tag, known.tag .. ':m:' .. session
  call('ZADD', tag .. ':h:' .. session, unpack(known))
  known.added = true
  for _, seq_text in ipairs(known.urgent or {}) do prioritize(tag, session, seq_text) end
  for sender, i in pairs(known.senders or {}) do call('HSET', meta, 'r:' .. sender, read_by(i)) end
  call('HSET', meta, 'q', number(known.last), 'n', number(known.n), 'r:' .. known.sender, read_by(known.newest))
end

-- Add what is gathered for the log of a shard.
local function add_row(tag, shard)
  local row = shard.row
  shard.row = nil
  if row.count > 1 then row[1] = 'm' end
  if log_keep_ms > 0 and row.seq % TRIM_EVERY == 0 then
    call('XADD', tag .. ':log', 'MINID', '~', log_floor, '*', unpack(row))
  else
    call('XADD', tag .. ':log', '*', unpack(row))
  end
end

local function gather(tag, shard, session, seq, entry)
  local row = shard.row
  if not row then
    row = {'s', session, count = 0, session = session, seq = seq}
    shard.row = row
  end
  local at = #row
  if row.session ~= session then
    row.session, row[at + 1], row[at + 2] = session, 's', session
    at = at + 2
  end
  row[at + 1], row[at + 2] = 'e', entry
  row.count = row.count + 1
  if row.count == IN_ROW then add_row(tag, shard) end
end

local function answer(i, status, seq, prev, extra)
  status_of[i], seq_of[i], prev_of[i], extra_of[i] = status, seq, prev, extra
end

-- Log and dedup of a shard.
local function write_shard(tag, shard)
  local dedup, kept = tag .. dedup_now, {}
  for k = 1, #shard do
    local i = shard[k]
    if status_of[i] == 1 then
      kept[#kept + 1], kept[#kept + 2] = digest_of[i], known_by[digest_of[i]]
      gather(tag, shard, session_of[i], seq_of[i], entry_of[i])
    end
  end
  if #kept == 0 then return end
  call('HSET', dedup, unpack(kept))
  if call('HLEN', dedup) == #kept / 2 then call('EXPIRE', dedup, 2 * dedup_seconds) end
  if shard.row then add_row(tag, shard) end
end

local function text_of(trouble) return type(trouble) == 'table' and trouble.err or tostring(trouble) end

local function is_stored(i)
  local status = status_of[i]
  return status == 1 or status == 2 or status == 8
end

-- A message of whose session something failed is not called stored, nor may it overtake what failed.
local function fail(i, trouble)
  local status = status_of[i]
  if is_stored(i) or status > 8 or (status == 3 and is_new[digest_of[i]]) then answer(i, 0, 0, 0, text_of(trouble)) end
end

-- Something of a session (or shard) could not be written: what was is taken back. Where nothing was, this may not be the
-- first write: behind it, a full Redis would take all others.
local function take_back(column, value, trouble)
  for i = 1, #column do
    if column[i] == value then
      if status_of[i] == 1 and sessions[session_of[i]].added then
        local seq = number(seq_of[i])
        redis.pcall('ZREMRANGEBYSCORE', tag_of[i] .. ':h:' .. session_of[i], seq, seq)
        redis.pcall('HDEL', tag_of[i] .. dedup_now, digest_of[i])
      end
      fail(i, trouble)
    end
  end
end

local function note_recent(i)
  for recent in string.gmatch(recent_of[i], '%S+') do note(recent, session_of[i], now) end
end

look_up_all()
for i = 1, #tag_of do
  local ok, status, seq, prev, extra = pcall(judged, i)
  if ok then
    answer(i, status, seq, prev, extra)
  else
    answer(i, 0, 0, 0, text_of(status))
    broken[session_of[i]] = true
  end
end
for _, session in ipairs(order) do
  local known = sessions[session]
  if known[1] then
    local ok, trouble = pcall(write_session, session, known)
    if not ok then take_back(session_of, session, trouble) end
  end
end
for tag, shard in pairs(shards) do
  local ok, trouble = pcall(write_shard, tag, shard)
  if not ok then take_back(tag_of, tag, trouble) end
end
local unnoted = {} -- by session: why not
for i = 1, #tag_of do
  local session = session_of[i]
  if recent_of[i] ~= '' and is_stored(i) and not unnoted[session] then
    local ok, trouble = pcall(note_recent, i)
    if not ok then unnoted[session] = trouble end
  end
  if unnoted[session] then fail(i, unnoted[session]) end
end
keep_stamps()
return cmsgpack.pack({status_of, seq_of, prev_of, extra_of})
