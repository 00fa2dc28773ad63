//! What changes a key on the server, and tells it in the same breath: a script runs as a whole, so that
//! watchers hear of all changes of a key, in their order.
//!
//! Each has one key, so that it runs on the node of a cluster that has it, and the channel as the first
//! argument. What is told is read in `listen`: the length of the key, whether it was set or removed, the
//! key, and its value.

use std::sync::LazyLock;

use redis::Script;

const SET_AND_TELL: &str = r"
local key, channel = KEYS[1], ARGV[1]
local function told(what, value)
    redis.call('PUBLISH', channel, #key .. what .. key .. value)
end
local function set(value, ttl)
    if ttl == '' then
        redis.call('SET', key, value)
    else
        redis.call('SET', key, value, 'PX', ttl)
    end
    told('S', value)
end
local function delete()
    local was_there = redis.call('DEL', key)
    if was_there == 1 then
        told('R', '')
    end
    return was_there
end
";

fn script(body: &str) -> Script {
    Script::new(&format!("{SET_AND_TELL}{body}"))
}

/// Value, time to live in milliseconds or nothing.
pub(super) static SET: LazyLock<Script> = LazyLock::new(|| script("set(ARGV[2], ARGV[3])"));

/// Gives 1 where the key was there, 0 where not.
pub(super) static DELETE: LazyLock<Script> = LazyLock::new(|| script("return delete()"));

/// Whether a value is expected, which, whether there is a new one, which, and its time to live. Gives
/// whether it was done, and the value where not.
pub(super) static COMPARE_AND_SET: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local current = redis.call('GET', key)
local expected = ARGV[2] == '1' and ARGV[3]
if current ~= expected then
    return {0, current}
end
if ARGV[4] == '1' then
    set(ARGV[5], ARGV[6])
else
    delete()
end
return {1, false}
",
    )
});

/// The amount. Gives the sum, or else what the server says against it.
pub(super) static ADD: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local added = redis.pcall('INCRBY', key, ARGV[2])
if type(added) == 'table' and added.err then
    return {false, added.err}
end
local sum = redis.call('GET', key)
told('S', sum)
return {sum, false}
",
    )
});
