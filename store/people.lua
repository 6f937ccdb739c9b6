-- Shared by the scripts of the shards of users (put before them; it runs nothing).
local call = redis.call

local function text(n) return string.format('%.0f', n) end

-- The next stamp (µs) of the shard, strictly increasing even when the clock steps back.
local function new_stamp(key)
  local time = call('TIME')
  local stamp = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(call('GET', key) or 0) + 1)
  call('SET', key, text(stamp))
  return stamp
end

-- Attributes of a subject (a user or a session) lie in one hash: field 'subject' lists the names, each ended by NUL;
-- field 'subject NUL name' is a value.
local function names_of(key, subject)
  local names = {}
  for name in string.gmatch(call('HGET', key, subject) or '', '([^%z]+)%z') do names[#names + 1] = name end
  return names
end

local function mark_attribute(key, subject, name)
  local tag, about, user = parts_of(key)
  mark(tag, 'attributes', table.concat({user, about, subject, name}, '\0'))
end

local function clear_attribute(key, subject, name)
  if call('HDEL', key, subject .. '\0' .. name) == 0 then return end
  mark_attribute(key, subject, name)
  local rest = ''
  for _, other in ipairs(names_of(key, subject)) do
    if other ~= name then rest = rest .. other .. '\0' end
  end
  if rest == '' then call('HDEL', key, subject) else call('HSET', key, subject, rest) end
end

local function set_attribute(key, subject, name, value)
  mark_attribute(key, subject, name)
  if call('HSET', key, subject .. '\0' .. name, value) == 1 then
    call('HSET', key, subject, (call('HGET', key, subject) or '') .. name .. '\0')
  end
end

local function clear_attributes(key, subject)
  for _, name in ipairs(names_of(key, subject)) do
    call('HDEL', key, subject .. '\0' .. name)
    mark_attribute(key, subject, name)
  end
  call('HDEL', key, subject)
end
