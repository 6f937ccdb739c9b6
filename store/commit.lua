-- Store the messages of one turn. Each item runs in its own pcall: one that fails leaves the others alone.
-- KEYS[1]  a key of the shard (any), so that a Cluster routes the script
-- ARGV     floor, require_friend, dedup_seconds, log_keep_ms, step of stamps, then 9 per message:
--          tag, session, sender, peer ('' = no relation to check, '#' = the sender must be a member of this group; an app
--          needs no friends),
--          dedup (digest of session, sender and packId), crc (4 bytes), marks, tail, keys of
--          the recent sessions it is noted in ('' = none; several are separated by spaces, and lie in other shards);
--          marks: '1' it counts as unread, '2' it goes to its group's priority queue, '3' both, '0' neither; and 4 more:
--          it is sent again, perhaps after so long that only the archive knows it
-- Returns  4 per message: status, seqId, prevSeqId, membership version (of a group just checked, else 0)
--          status 1 stored, 2 stored before, 3 same packId with other content, 4 not friends, 5 blocked,
--          6 no such group, 7 not a member of it, 8 stored before and revoked, overridden or deleted since,
--          9 the archive must be asked whether it was stored before, 10 behind such a one,
--          0 error (its text in place of the version)
-- A message is: checks, then history, head, dedup, log. Nothing is written before all checks passed: Lua has no rollback.
-- Messages of one shard share a row of its log (store/log.py): adding and reading a row costs more than what is in it.
local call, pack, unpack_, format = redis.call, struct.pack, struct.unpack, string.format
local TRIM_EVERY = 32 -- the log is cut with one row in so many: each time costs 1.5 µs
local IN_ROW = 8 -- messages of a row, at most: `[store] log_rows` counts rows
local PRIORITY_SECONDS = 2592000 -- 30 days, as in priority.py
local FIRST, FIELDS = 6, 9 -- where in ARGV the messages begin, and of how many fields each is
local floor, require_friend = tonumber(ARGV[1]), ARGV[2] == '1'
local dedup_seconds, log_keep_ms, step = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local bucket = math.floor(tonumber(time[1]) / dedup_seconds)
-- As text once: a number costs more in a string or a command than most of what is done with it.
local dedup_now, dedup_before = ':d:' .. bucket, ':d:' .. (bucket - 1)
local broken, asked = {}, {}
local rows, cut_off = {}, {} -- rows that are gathered; why one could not be added to the log of its shard
local remembered = format('%.0f', now - dedup_seconds * 1000000) -- what is stored since is in the dedup
local expiring = {} -- tables of digests that are known to expire
local log_floor = format('%.0f', math.floor(now / 1000) - log_keep_ms)

local function number(n) return format('%.0f', n) end

-- As enqueue.lua does it, but with the message.
local function prioritize(tag, queue, item)
  call('ZADD', queue, queue_stamp(tag, queue, now, step), item)
  call('ZREMRANGEBYSCORE', queue, '-inf', number(now - PRIORITY_SECONDS * 1000000))
  call('EXPIRE', queue, PRIORITY_SECONDS)
  local _, _, owner = parts_of(queue)
  mark(tag, 'queues', owner .. '\0' .. item)
end

-- Add what is gathered for the log of a shard.
local function add_row(tag)
  local row = rows[tag]
  rows[tag] = nil
  if row.count > 1 then row[1] = 'm' end
  local reply
  if log_keep_ms > 0 and row.seq % TRIM_EVERY == 0 then
    reply = redis.pcall('XADD', tag .. ':log', 'MINID', '~', log_floor, '*', unpack(row))
  else
    reply = redis.pcall('XADD', tag .. ':log', '*', unpack(row))
  end
  if type(reply) == 'table' then cut_off[tag] = reply.err end
end

local function gather(tag, session, seq, entry)
  local row = rows[tag]
  if not row then
    row = {'s', session, count = 0, session = session, seq = seq}
    rows[tag] = row
  end
  local at = #row
  if row.session ~= session then
    row.session, row[at + 1], row[at + 2] = session, 's', session
    at = at + 2
  end
  row[at + 1], row[at + 2] = 'e', entry
  row.count = row.count + 1
  if row.count == IN_ROW then add_row(tag) end
end

local function store(i)
  local tag, session, sender, peer = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local field, crc, marks, tail = ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7]
  -- Nothing may overtake a message of its session that failed.
  if broken[session] then return 0, 0, 0, 'behind a failed message' end
  if asked[session] then return 10, 0, 0, 0 end
  local dedup = tag .. dedup_now
  local before = call('HGET', dedup, field) or call('HGET', tag .. dedup_before, field)
  if before then
    local seq, prev = unpack_('>I8I8', before)
    if string.sub(before, 17) ~= crc then return 3, 0, 0, 0 end
    local entry = call('ZRANGEBYSCORE', tag .. ':h:' .. session, number(seq), number(seq))[1]
    return (entry and string.byte(entry) == 0) and 2 or 8, seq, prev, 0
  end
  local meta = tag .. ':m:' .. session
  local head
  local version = 0
  if peer == '' then
    head = call('HMGET', meta, 'q', 'n')
  elseif peer == '#' then
    version = call('HGET', tag .. ':i:' .. session, 'version')
    if not version then return 6, 0, 0, 0 end
    if not call('ZSCORE', tag .. ':p:' .. session, sender) then return 7, 0, 0, 0 end
    version = tonumber(version)
    head = call('HMGET', meta, 'q', 'n')
  else
    head = call('HMGET', meta, 'q', 'n', 'b:' .. peer, 'f:' .. sender)
    if head[3] then return 5, 0, 0, 0 end
    if require_friend and not head[4] and string.sub(session, 1, 3) ~= 'BM_' then return 4, 0, 0, 0 end
  end
  if marks > '3' then
    if head[1] and (call('HEXISTS', meta, 'a') == 1 or call('ZCOUNT', tag .. ':h:' .. session, '-inf', remembered) > 0
      or call('ZCOUNT', tag .. ':t:' .. session, '-inf', remembered) > 0) then
      asked[session] = true
      return 9, 0, 0, 0
    end
    marks = tostring(tonumber(marks) - 4)
  end
  local last, n = tonumber(head[1] or 0), tonumber(head[2] or 0)
  -- A µs further for each message: none of two sessions has the same number, as far as one server stores them.
  local seq = math.max(last + 1, now + (i - FIRST) / FIELDS, floor)
  if marks == '1' or marks == '3' then n = n + 1 end
  local seq_text, n_text = number(seq), number(n)
  local entry = pack('>I8I8I8', seq, last, n) .. tail
  call('ZADD', tag .. ':h:' .. session, seq_text, entry)
  call('HSET', meta, 'q', seq_text, 'n', n_text, 'r:' .. sender, seq_text .. ':' .. n_text)
  call('HSET', dedup, field, pack('>I8I8', seq, last) .. crc)
  if marks > '1' then prioritize(tag, tag .. ':c:' .. session, seq_text .. ' ' .. session) end
  if not expiring[dedup] then
    if call('HLEN', dedup) == 1 then call('EXPIRE', dedup, 2 * dedup_seconds) end
    expiring[dedup] = true
  end
  gather(tag, session, seq, entry)
  return 1, seq, last, version
end

local function store_and_note(i)
  local status, seq, prev, extra = store(i)
  local lists = ARGV[i + 8]
  if lists ~= '' and (status == 1 or status == 2 or status == 8) then
    for recent in string.gmatch(lists, '%S+') do note(recent, ARGV[i + 1], now) end
  end
  return status, seq, prev, extra
end

local result, at = {}, 0
for i = FIRST, #ARGV, FIELDS do
  local ok, status, seq, prev, extra = pcall(store_and_note, i)
  if not ok then
    extra = type(status) == 'table' and status.err or tostring(status)
    status, seq, prev = 0, 0, 0
    broken[ARGV[i + 1]] = true
  end
  result[at + 1], result[at + 2], result[at + 3], result[at + 4] = status, seq, prev, extra
  at = at + 4
end
for tag in pairs(rows) do add_row(tag) end
if next(cut_off) then -- what is in no log is taken back, and not called stored, nor are repeats of it
  for i = FIRST, #ARGV, FIELDS do
    local tag, at = ARGV[i], (i - FIRST) / FIELDS * 4
    local status, seq = result[at + 1], result[at + 2]
    if cut_off[tag] and (status == 1 or status == 2 or status == 8) then
      if status == 1 then
        call('ZREMRANGEBYSCORE', tag .. ':h:' .. ARGV[i + 1], number(seq), number(seq))
        call('HDEL', tag .. dedup_now, ARGV[i + 4])
      end
      result[at + 1], result[at + 2], result[at + 3], result[at + 4] = 0, 0, 0, cut_off[tag]
    end
  end
end
keep_stamps()
return result
