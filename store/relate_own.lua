-- Decide on a change of relations where its maker is kept: whole or not at all. What it means for the other shards is
-- noted here, in the same step, until it is done there.
-- KEYS[1]  the stamp key of this shard of users
-- ARGV     tag, user, kind, limit, floor, then 3 per other user: id, sessions of the pair, remark ('' leaves it)
--          kind   add, delete, block, unblock, ask, accept, decline
--          limit  friends (add, accept) or blocked users (block) that he may have
--          floor  the new versions of friendships are above it
-- Returns  status (0 done, 1 above the limit, 2 nobody asked), then the notes
-- A version of a friendship is 2 * µs, + 1 when it says that there is none. The highest one counts, everywhere.
local tag, user, kind, limit, floor = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local friends, versions, blocked = tag .. ':f:' .. user, tag .. ':v:' .. user, tag .. ':b:' .. user
local attributes, asked, todo = tag .. ':a:' .. user, tag .. ':q:' .. user, tag .. ':j'
local notes, session = {0}, ''

local function note(what, other, version)
  local made = table.concat({what, user, other, session, version}, '\0')
  call('ZADD', todo, new_stamp(KEYS[1]), made)
  notes[#notes + 1] = made
end

local function next_version(known)
  return math.max(new_stamp(KEYS[1]), math.floor(math.max(known, floor) / 2) + 1) * 2
end

local function rename(other, remark)
  if remark ~= '' and call('HGET', attributes, other .. '\0REMARK') ~= remark then
    set_attribute(attributes, other, 'REMARK', remark)
    return true
  end
  return false
end

local function told(other)
  mark(tag, 'friends', user .. '\0' .. other)
  mark(tag, 'requests', user .. '\0' .. other)
end

local apply = {}

function apply.add(other, remark)
  local known = tonumber(call('HGET', versions, other) or 0)
  local renamed, there = rename(other, remark), call('ZSCORE', friends, other)
  if not there or known <= floor then
    known = next_version(known)
    call('HSET', versions, other, text(known))
  end
  if renamed or not there then
    call('ZADD', friends, text(new_stamp(KEYS[1])), other)
  end
  call('ZREM', asked, other)
  note('add', other, text(known)) -- also when nothing changed here: the other shards may lack it
end
apply.accept = apply.add

function apply.delete(other)
  local known = call('HGET', versions, other)
  clear_attributes(attributes, other)
  if not known then return note('undo', other, '0') end -- no friend ever; perhaps he was asked
  known = tonumber(known)
  if known % 2 == 0 or known <= floor then
    known = next_version(known) + 1
    call('HSET', versions, other, text(known))
  end
  call('ZREM', friends, other)
  note('delete', other, text(known))
end

function apply.ask(other, remark)
  rename(other, remark)
  note('ask', other, '0')
end

function apply.decline(other) call('ZREM', asked, other) end

function apply.block(other)
  call('SADD', blocked, other)
  call('ZREM', asked, other)
  note('block', other, text(new_stamp(KEYS[1])))
end

function apply.unblock(other)
  call('SREM', blocked, other)
  note('unblock', other, text(new_stamp(KEYS[1])))
end

local have, new = 0, 0
if kind == 'add' or kind == 'accept' then have = call('ZCARD', friends) end
if kind == 'block' then have = call('SCARD', blocked) end
for i = 6, #ARGV, 3 do
  local friend = call('ZSCORE', friends, ARGV[i])
  if kind == 'accept' and not friend and not call('ZSCORE', asked, ARGV[i]) then return {2} end
  if kind == 'block' then
    new = new + 1 - call('SISMEMBER', blocked, ARGV[i])
  elseif (kind == 'add' or kind == 'accept') and not friend then
    new = new + 1
  end
end
if new > 0 and have + new > limit then return {1} end
for i = 6, #ARGV, 3 do
  session = ARGV[i + 1]
  apply[kind](ARGV[i], ARGV[i + 2])
  if kind == 'block' or kind == 'unblock' then mark(tag, 'blocks', user .. '\0' .. ARGV[i]) end
  if kind ~= 'unblock' and kind ~= 'ask' then told(ARGV[i]) end
end
return notes
