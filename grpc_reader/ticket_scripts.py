"""What happens to the ticket in one step at the Redis server."""

from common.cache import TICKET_GENERATION_LUA

# -> run id of the server, its time in milliseconds, whether a ticket of this run stands.
LOOK = (
    TICKET_GENERATION_LUA
    + """
local now = redis.call('TIME')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
return {run, now[1] * 1000 + math.floor(now[2] / 1000), generation() and 1 or 0}
"""
)

# A ticket that is past, foreign or of another run is left as it is. A deadline that is past ends it.
EXTEND = (
    TICKET_GENERATION_LUA
    + """
local now = redis.call('TIME')
local stood = generation() == ARGV[1]
if stood then redis.call('PEXPIREAT', KEYS[1], ARGV[2]) end
return {stood and 1 or 0, now[1] * 1000 + math.floor(now[2] / 1000)}
"""
)

# Without our ticket our keys serve nobody. Another's may: it goes, for its owner cannot record any more.
EVICT = (
    TICKET_GENERATION_LUA
    + """
if generation() ~= ARGV[1] then
  redis.call('DEL', KEYS[1])
  return 0
end
for i = 2, #ARGV do redis.call('DEL', 'bookstore:book:' .. ARGV[1] .. ':' .. ARGV[i]) end
return 1
"""
)

RELEASE = (
    TICKET_GENERATION_LUA
    + """
if generation() == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""
)
