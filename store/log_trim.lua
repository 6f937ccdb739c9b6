-- Cut the logs of shards at what their slowest group has done, and say how far the groups are.
-- KEYS[1]  a key of the shard (any)
-- ARGV     the group that is never passed over, whether it is sure to be there (1 or 0: a log that lacks it has been
--          lost since and is not cut until that group has been made again), ms after which others are (0: never), then tags
-- Returns  rows in the logs, their groups' number, then 4 per group of each shard: name, pending, ms of the oldest row that
--          it has not done ('' for none), rows that it was passed over
-- A group that is passed over takes what is older than the limit for done.
local call, format, match = redis.call, string.format, string.match
local PASS = 500 -- rows of a group at once: Redis answers others between two scripts
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local never, sure, keep_ms = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local result, length, groups = {0, 0}, 0, 0

local function before(a, b)
  local a_ms, a_n = match(a, '^(%d+)-(%d+)$')
  local b_ms, b_n = match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_n) < tonumber(b_n)
end

local function after(id)
  local ms, n = match(id, '^(%d+)-(%d+)$')
  return ms .. '-' .. format('%.0f', tonumber(n) + 1)
end

local function pass_over(log, group, limit)
  local passed = 0
  for _, row in ipairs(call('XPENDING', log, group.name, '-', limit, PASS)) do
    passed = passed + call('XACK', log, group.name, row[1])
  end
  local rows = call('XRANGE', log, after(group.delivered), limit, 'COUNT', PASS)
  if #rows > 0 then
    group.delivered = rows[#rows][1]
    call('XGROUP', 'SETID', log, group.name, group.delivered)
  end
  return passed + #rows
end

local function trim(log)
  local found = redis.pcall('XINFO', 'GROUPS', log)
  if found.err then return end -- there is no such log
  local slowest, there
  for _, fields in ipairs(found) do
    local group = {}
    for i = 1, #fields, 2 do group[fields[i]] = fields[i + 1] end
    group.delivered = group['last-delivered-id']
    there = there or group.name == never
    local passed = 0
    if keep_ms > 0 and group.name ~= never then passed = pass_over(log, group, format('%.0f', now - keep_ms)) end
    local pending = call('XPENDING', log, group.name)
    local undone = pending[2]
    if pending[1] == 0 then
      undone = after(group.delivered)
      local row = call('XRANGE', log, undone, '+', 'COUNT', 1)[1]
      group.oldest = row and row[1]
    else
      group.oldest = undone
    end
    if not slowest or before(undone, slowest) then slowest = undone end
    groups = groups + 1
    for _, part in ipairs({group.name, pending[1], group.oldest and match(group.oldest, '^%d+') or '', passed}) do
      result[#result + 1] = part
    end
  end
  if slowest and (there or not sure) then call('XTRIM', log, 'MINID', slowest) end
  length = length + call('XLEN', log)
end

for i = 4, #ARGV do trim(ARGV[i] .. ':log') end
result[1], result[2] = length, groups
return result
