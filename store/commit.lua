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
-- A message is: checks, then dedup, history, head, log. Nothing is written before all checks passed: Lua has no rollback;
-- what the dedup says of a message that its history did not take is taken back.
local call, pack, unpack_, format = redis.call, struct.pack, struct.unpack, string.format
local TRIM_EVERY = 32 -- the log is cut with one message in so many: each time costs 1.5 µs
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
local remembered = format('%.0f', now - dedup_seconds * 1000000) -- what is stored since is in the dedup
local settled = (bucket * dedup_seconds + 60) * 1000000 -- who has a newer message has stored one in this table,
local ahead = now + 1000000 -- unless his numbers are ahead of the clock
local claimed -- the table of digests that has a message which its history has not yet
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

-- What became of a message that is in a table of digests.
local function repeated(tag, session, before, crc)
  local seq, prev = unpack_('>I8I8', before)
  if string.sub(before, 17) ~= crc then return 3, 0, 0, 0 end
  local entry = call('ZRANGEBYSCORE', tag .. ':h:' .. session, number(seq), number(seq))[1]
  return (entry and string.byte(entry) == 0) and 2 or 8, seq, prev, 0
end

-- seqId and n of the newest message of the session, the version of the group, and why the sender may not write.
local function standing(tag, session, sender, peer, meta)
  if peer == '' then return call('HMGET', meta, 'q', 'n'), 0 end
  if peer == '#' then
    local version = call('HGET', tag .. ':i:' .. session, 'version')
    if not version then return {}, 0, 6 end
    if not call('ZSCORE', tag .. ':p:' .. session, sender) then return {}, 0, 7 end
    return call('HMGET', meta, 'q', 'n'), tonumber(version)
  end
  local head = call('HMGET', meta, 'q', 'n', 'b:' .. peer, 'f:' .. sender)
  if head[3] then return head, 0, 5 end
  if require_friend and not head[4] and string.sub(session, 1, 3) ~= 'BM_' then return head, 0, 4 end
  return head, 0
end

-- Whether only the archive knows if the session, of which there is something, has a message that came so long ago.
local function archive_knows(tag, session, meta)
  return call('HEXISTS', meta, 'a') == 1 or call('ZCOUNT', tag .. ':h:' .. session, '-inf', remembered) > 0
    or call('ZCOUNT', tag .. ':t:' .. session, '-inf', remembered) > 0
end

local function store(i)
  local tag, session, sender, field, crc = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 4], ARGV[i + 5]
  local marks = ARGV[i + 6]
  -- Nothing may overtake a message of its session that failed.
  if broken[session] then return 0, 0, 0, 'behind a failed message' end
  if asked[session] then return 10, 0, 0, 0 end
  local dedup, meta = tag .. dedup_now, tag .. ':m:' .. session
  local head, version, refused = standing(tag, session, sender, ARGV[i + 3], meta)
  -- A repeat is told so whatever its sender may do by now. Of others HSETNX below says that they are new.
  local before = call('HGET', tag .. dedup_before, field)
  if not before and (refused or marks > '3') then before = call('HGET', dedup, field) end
  if before then return repeated(tag, session, before, crc) end
  if refused then return refused, 0, 0, 0 end
  if marks > '3' then
    if head[1] and archive_knows(tag, session, meta) then
      asked[session] = true
      return 9, 0, 0, 0
    end
    marks = tostring(tonumber(marks) - 4)
  end
  local last, n = tonumber(head[1] or 0), tonumber(head[2] or 0)
  -- A µs further for each message: none of two sessions has the same number, as far as one server stores them.
  local seq = math.max(last + 1, now + (i - FIRST) / FIELDS, floor)
  if call('HSETNX', dedup, field, pack('>I8I8', seq, last) .. crc) == 0 then
    return repeated(tag, session, call('HGET', dedup, field), crc)
  end
  claimed = dedup
  if marks == '1' or marks == '3' then n = n + 1 end
  local seq_text, n_text = number(seq), number(n)
  local entry = pack('>I8I8I8', seq, last, n) .. ARGV[i + 7]
  call('ZADD', tag .. ':h:' .. session, seq_text, entry)
  claimed = nil
  call('HSET', meta, 'q', seq_text, 'n', n_text, 'r:' .. sender, seq_text .. ':' .. n_text)
  if marks > '1' then prioritize(tag, tag .. ':c:' .. session, seq_text .. ' ' .. session) end
  -- The first message of each session in a table sees that it expires.
  if (last < settled or last > ahead) and call('TTL', dedup) < 0 then call('EXPIRE', dedup, 2 * dedup_seconds) end
  if log_keep_ms > 0 and seq % TRIM_EVERY == 0 then
    call('XADD', tag .. ':log', 'MINID', '~', log_floor, '*', 's', session, 'e', entry)
  else
    call('XADD', tag .. ':log', '*', 's', session, 'e', entry)
  end
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
    if claimed then call('HDEL', claimed, ARGV[i + 4]) end
    claimed = nil
  end
  result[at + 1], result[at + 2], result[at + 3], result[at + 4] = status, seq, prev, extra
  at = at + 4
end
keep_stamps()
return result
