-- Take out of the history what lies in the archive and is more than Redis shall keep.
-- KEYS[1]  a key of the shard (any)
-- ARGV     tag, messages to keep, seconds to keep them, messages to keep in any case, seconds that changed ones stay,
--          group of the archive's consumers, seconds after which messages are deleted everywhere (0: never), then
--          sessions of the shard
-- Returns  messages taken out
-- What the archive has is what was stored before the oldest row of the log that its group has not done. That row's id says
-- when it was written, a message's number when its script began: some time may lie between the two. A message that was
-- changed after it was taken out (control.lua) lies here again until the archive knows it.
local call, format, match = redis.call, string.format, string.match
local AT_ONCE = 500 -- messages of a session: Redis answers others between two scripts
local SCRIPT_MS = 10000 -- longest that a script may take from reading the time to writing its rows
local tag, keep, least, forget = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[7])
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local log = tag .. ':log'

-- ms up to which (exclusively) all that was stored is in the archive; nil when nobody archives.
local function archived_ms()
  local found = redis.pcall('XINFO', 'GROUPS', log)
  if found.err then return nil end
  for _, fields in ipairs(found) do
    local group = {}
    for i = 1, #fields, 2 do group[fields[i]] = fields[i + 1] end
    if group.name == ARGV[6] then
      local pending = call('XPENDING', log, group.name)
      if pending[1] > 0 then return tonumber(match(pending[2], '^%d+')) - SCRIPT_MS end
      local row = call('XRANGE', log, '(' .. group['last-delivered-id'], '+', 'COUNT', '1')[1]
      return row and tonumber(match(row[1], '^%d+')) - SCRIPT_MS or now
    end
  end
  return nil
end

local safe = archived_ms()
if not safe then return 0 end
local settled = math.min(safe, now - tonumber(ARGV[5]) * 1000)

local function changed_ms(entry)
  if string.byte(entry) == 0 then return 0 end
  return (struct.unpack('>I8', string.sub(entry, 30, 37)))
end

-- Up to `bound`; returns how many there were, and the greatest number among them.
local function take_out(key, bound)
  local rows = call('ZRANGEBYSCORE', key, '-inf', bound, 'WITHSCORES', 'LIMIT', '0', AT_ONCE)
  local out, last = {}, nil
  for i = 1, #rows, 2 do
    if changed_ms(rows[i]) < settled then out[#out + 1] = rows[i] end
    last = rows[i + 1]
  end
  if #out > 0 then call('ZREM', key, unpack(out)) end
  return #out, last
end

local function trim(session)
  local history, meta = tag .. ':h:' .. session, tag .. ':m:' .. session
  local count = call('ZCARD', history)
  local expired = 0
  if forget > 0 then expired = call('ZCOUNT', history, '-inf', format('%.0f', (now - forget * 1000) * 1000)) end
  if count <= least and expired == 0 and call('HEXISTS', meta, 'a') == 0 then return 0 end
  local before = tonumber(call('HGET', meta, 'a') or 0)
  local oldest = format('%.0f', (now - tonumber(ARGV[3]) * 1000) * 1000)
  local old = math.min(call('ZCOUNT', history, '-inf', oldest), count - least)
  local over = math.max(count - keep, old, expired)
  local taken = 0
  if over > 0 then
    local edge = call('ZRANGE', history, over - 1, over - 1, 'WITHSCORES')[2]
    local bound = format('%.0f', math.min(tonumber(edge), safe * 1000 - 1))
    local n, last = take_out(history, bound)
    taken = n
    -- Not further than what was looked at: the rest follows with the next script.
    if last and tonumber(last) > before then
      before = tonumber(last)
      call('HSET', meta, 'a', format('%.0f', before))
    end
  end
  if before > 0 then taken = taken + take_out(tag .. ':t:' .. session, format('%.0f', before)) end
  return taken
end

local taken = 0
for i = 8, #ARGV do taken = taken + trim(ARGV[i]) end
return taken
