//! Lua scripts that change a key and publish the change. A script runs atomically, so watchers receive all changes of a
//! key in their order.
//!
//! Each script has one key, so that it runs on the node of a cluster that owns the key, and the channel as its first
//! argument. The published message, which `change_feed` parses, is the length of the key, `S` (set) or `R` (removed), the
//! key, and the value.

use std::sync::LazyLock;

use redis::Script;

const SET_AND_PUBLISH: &str = r"
local key, channel = KEYS[1], ARGV[1]
local function publish(what, value)
    redis.call('PUBLISH', channel, #key .. what .. key .. value)
end
local function set(value, ttl)
    if ttl == '' then
        redis.call('SET', key, value)
    else
        redis.call('SET', key, value, 'PX', ttl)
    end
    publish('S', value)
end
local function delete()
    local was_there = redis.call('DEL', key)
    if was_there == 1 then
        publish('R', '')
    end
    return was_there
end
";

fn script(body: &str) -> Script {
    Script::new(&format!("{SET_AND_PUBLISH}{body}"))
}

/// Arguments: the value, and the time to live in milliseconds or an empty text.
pub(super) static SET: LazyLock<Script> = LazyLock::new(|| script("set(ARGV[2], ARGV[3])"));

/// Returns 1 if the key existed, otherwise 0.
pub(super) static DELETE: LazyLock<Script> = LazyLock::new(|| script("return delete()"));

/// Arguments: whether a value is expected, the expected value, whether there is a new value, the new value, and its time
/// to live. Returns whether the key was changed, and otherwise its value.
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

/// Argument: the amount. Returns the sum, or the error of the server.
pub(super) static ADD: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local added = redis.pcall('INCRBY', key, ARGV[2])
if type(added) == 'table' and added.err then
    return {false, added.err}
end
local sum = redis.call('GET', key)
publish('S', sum)
return {sum, false}
",
    )
});
