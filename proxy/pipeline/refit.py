"""Applies the rules of today to an entry that was stored under those of another day.

Workers begin with nothing in memory, so after a reload every entry comes from the disk once: that
is when this is asked. It costs two comparisons where nothing has changed.
"""

from proxy.cache.entry import Entry
from proxy.message import Request
from proxy.pipeline.store import Times, set_times
from proxy.rules.cache_rule import CacheRule
from proxy.rules.conditions import rule_for
from proxy.rules.freshness import age_value, date_value, initial_age_s
from proxy.rules.targeted import governing_directives


def refit(entry: Entry, request: Request, rule: CacheRule, now: float) -> bool:
    """Give `entry` the lifetimes that `rule` has for it; False when it may not be used under it.

    Not when what is ignored, or who speaks to this cache, has changed: what an answer said that was
    ignored then is not there to be heeded now. What is stale stays stale, a purge may have made it
    so, and costs a validation at most.
    """
    rule = rule_for(rule, request, entry.status, entry.fields)
    if entry.storing_id != rule.storing_id:
        return False
    if entry.lifetime_id == rule.lifetime_id:
        return True
    fields = entry.fields
    age_s = initial_age_s(
        age_value(fields),
        date_value(fields, entry.response_at),
        entry.request_at,
        entry.response_at,
    )
    came_at = entry.born_at + age_s
    fresh_until, no_cache = entry.fresh_until, entry.no_cache
    directives = governing_directives(fields, rule)
    times = Times(entry.request_at, entry.response_at, came_at)
    set_times(entry, fields, directives, rule, times)
    entry.no_cache = entry.no_cache or no_cache
    if fresh_until <= now < entry.fresh_until:
        longer_s = entry.fresh_until - fresh_until
        entry.fresh_until -= longer_s
        entry.swr_until -= longer_s
        entry.sie_until -= longer_s
    return True
