// What Timeline's pages do beyond HTML: who is signed in, posts that arrive while one reads, times
// that say how long ago, the count of characters, and the follow button. Reading, signing in and
// posting work without it.

const RETRY_MS = 15_000; // when the server has no event stream left to give
const RECOUNT_MS = 30_000;

const find = (selector, within = document) => within.querySelector(selector);

// --- Times ---------------------------------------------------------------------------------

const STEPS = [
  ["minute", 60],
  ["hour", 3600],
  ["day", 86_400],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "narrow" });
const absolute = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const shortDate = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });

function ago(at, now) {
  const seconds = (now - at) / 1000;
  if (seconds < 60) return "now";
  if (seconds >= 7 * 86_400) return shortDate.format(at);
  const [unit, length] = STEPS.findLast(([, step]) => seconds >= step);
  return relative.format(-Math.floor(seconds / length), unit);
}

function showTimes(within = document) {
  const now = Date.now();
  for (const time of within.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    time.textContent = ago(at, now);
    time.title = absolute.format(at);
  }
}

// --- Posts that arrive -----------------------------------------------------------------------

// The same as in backend/view/text.py.
const LINK = /(https?:\/\/[^\s<>"“”]*[^\s<>"“”.,;:!?)])|(?<![\w@])@([a-z0-9_]{2,20})\b/g;

function linked(text) {
  const fragment = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const [whole, url, name] = match;
    const link = document.createElement("a");
    link.href = url ?? `/u/${name}`;
    link.textContent = url ? url.slice(url.indexOf("://") + 3) : whole;
    if (url) link.rel = "nofollow ugc";
    fragment.append(text.slice(end, match.index), link);
    end = match.index + whole.length;
  }
  fragment.append(text.slice(end));
  return fragment;
}

function postElement(post) {
  const item = find("template[data-blank]").content.cloneNode(true).firstElementChild;
  item.id = `post-${post.id}`;
  find(".avatar", item).src = post.avatar;
  const author = find(".author", item);
  author.href = `/u/${post.author}`;
  author.textContent = post.display_name;
  find(".handle", item).textContent = `@${post.author}`;
  find("time", item).dateTime = new Date(post.posted_at * 1000).toISOString();
  find(".text", item).append(linked(post.text));
  showTimes(item);
  return item;
}

function follow(feed) {
  const status = find("[data-live-status]");
  let after = Number(feed.dataset.live);
  let source = null;
  let retry = 0;

  const say = (text, on) => {
    status.hidden = false;
    status.classList.toggle("on", on);
    if (status.textContent !== text) status.textContent = text;
  };

  const close = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
  };

  const open = () => {
    close();
    source = new EventSource(`/events?after=${after}`);
    source.addEventListener("open", () => say("Live", true));
    source.addEventListener("post", (event) => {
      const post = JSON.parse(event.data);
      after = Math.max(after, post.id);
      if (document.getElementById(`post-${post.id}`)) return;
      find("[data-empty]", feed)?.remove();
      feed.prepend(postElement(post));
    });
    source.addEventListener("error", () => {
      say("Reconnecting", false);
      // The browser tries again by itself, except after an answer that is not a stream.
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS);
    });
  };

  // A stream holds one of the server's threads, so a page that nobody sees gives its own back.
  const watch = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", watch);
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => event.persisted && watch());
  watch();
}

// --- Who is signed in --------------------------------------------------------------------------

function accountLinks(me) {
  const nav = find("[data-me]");
  const profile = document.createElement("a");
  profile.className = "me";
  profile.href = `/u/${me.user.name}`;
  profile.setAttribute("aria-label", me.user.display_name);
  const avatar = document.createElement("img");
  Object.assign(avatar, { src: me.user.avatar, alt: "", width: 32, height: 32, className: "avatar" });
  const name = document.createElement("span");
  name.textContent = me.user.display_name;
  profile.append(avatar, name);

  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: "/sign-out" });
  const token = document.createElement("input");
  Object.assign(token, { type: "hidden", name: "csrf", value: me.csrf });
  const button = document.createElement("button");
  Object.assign(button, { className: "link", textContent: "Sign out" });
  form.append(token, button);

  find("a[href='/sign-in']", nav).replaceWith(profile, form);
}

function followButton(form, me) {
  if (me.user.name === form.dataset.follow) return;
  const button = find("button", form);
  const followers = find("[data-followers]");

  const show = (following) => {
    button.textContent = following ? "Unfollow" : "Follow";
    button.classList.toggle("quiet", following);
    form.action = `/u/${form.dataset.follow}/${following ? "unfollow" : "follow"}`;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const now = await json(form.action, { method: "POST", body: new FormData(form) });
      followers.textContent = now.followers;
      show(now.following);
    } catch {
      button.textContent = "Try again";
    } finally {
      button.disabled = false;
    }
  });

  form.elements.csrf.value = me.csrf;
  form.hidden = false;
  show(me.following.includes(form.dataset.follow));
}

async function json(address, options = {}) {
  const response = await fetch(address, { ...options, headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`${address} answered ${response.status}`);
  return response.json();
}

async function showMe() {
  const me = await json("/api/me");
  if (!me.user) return;
  accountLinks(me);
  for (const part of document.querySelectorAll("[data-guest]")) part.hidden = true;
  for (const part of document.querySelectorAll("[data-member]")) part.hidden = false;
  const form = find("[data-follow]");
  if (form) followButton(form, me);
}

// --- Forms and links ---------------------------------------------------------------------------

function countCharacters(area) {
  const count = document.getElementById("count");
  const show = () => {
    // The browser limits UTF-16 units and the server characters; the smaller is what fits.
    const left = area.maxLength - area.value.length;
    count.textContent = area.value ? `${left} left` : `Up to ${area.maxLength} characters`;
    count.classList.toggle("near", left < 20);
  };
  area.addEventListener("input", show);
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) area.form.requestSubmit();
  });
  show();
}

function markCurrentPage() {
  for (const link of document.querySelectorAll(".bar nav a")) {
    if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
  }
}

// --- Begin -------------------------------------------------------------------------------------

showTimes();
setInterval(() => showTimes(), RECOUNT_MS);
markCurrentPage();
const area = find("[data-counted]");
if (area) countCharacters(area);
const feed = find("[data-live]");
if (feed) follow(feed);
// Without the server's answer the page stays as it came: readable, with a link to sign in.
showMe().catch(() => {});
