"use strict";

// A page from a file may fetch nothing, but it may load scripts: those of ours put data in here.
const pageData = {};

function load(key) {
  return new Promise((done, fail) => {
    const script = document.createElement("script");
    script.src = key + ".js";
    script.onload = () => (script.remove(), done(pageData[key]));
    script.onerror = () => fail(new Error(`${key}.js is missing`));
    document.head.append(script);
  });
}

const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

// Only this moves while music plays, so that a phone has nothing to lay out or paint anew.
function place(within, at) {
  within.querySelector(".playhead i").style.transform = `translateX(${100 * at}%)`;
}

let context; // made at the first gesture, as browsers ask for one
let playing; // the one player that is heard

// All versions are channels of one buffer, so that nothing can set them apart. Gains choose.
class Player {
  constructor(article) {
    this.article = article;
    this.play = article.querySelector(".play");
    this.seek = article.querySelector(".seek");
    this.time = article.querySelector(".time");
    this.loop = article.querySelector(".loop input");
    this.radios = [...article.querySelectorAll(".versions input")];
    this.duration = Number(article.dataset.duration);
    this.drawn = Number(article.dataset.drawn);
    this.offset = 0;
    this.play.onclick = () => this.toggle();
    this.seek.oninput = () => this.moveTo(Number(this.seek.value));
    this.loop.onchange = () => this.source && this.moveTo(this.position());
    for (const radio of this.radios) radio.onchange = () => this.choose(0.01);
    const stack = article.querySelector(".stack");
    stack.onclick = (event) => {
      const box = stack.getBoundingClientRect();
      this.moveTo(((event.clientX - box.left) / box.width) * this.drawn);
    };
    for (const sign of ["pointerenter", "focusin"])
      article.addEventListener(sign, () => this.fetch(), { once: true });
  }

  // At the first sign of interest, so that the music begins at once.
  fetch() {
    this.files ??= load(this.article.dataset.key);
    this.files.catch((error) => this.tell(error));
    return this.files;
  }

  async decode() {
    const files = await this.fetch();
    const decoded = await Promise.all(
      this.radios.map((radio) => context.decodeAudioData(bytes(files[radio.value]).buffer)));
    const { length, sampleRate } = decoded[0];
    const buffer = context.createBuffer(decoded.length, length, sampleRate);
    decoded.forEach((one, channel) => buffer.copyToChannel(one.getChannelData(0), channel));
    return buffer;
  }

  async toggle() {
    if (this.source) return this.pause();
    try {
      if (navigator.audioSession) navigator.audioSession.type = "playback"; // a phone set to silent
      context ??= new AudioContext();
      const ready = context.resume();
      this.play.setAttribute("aria-busy", "true");
      this.buffer ??= await this.decode();
      await ready;
      playing?.pause();
      if (this.offset >= this.duration - 0.05) this.offset = 0;
      this.start();
    } catch (error) {
      this.tell(error);
    } finally {
      this.play.removeAttribute("aria-busy");
    }
  }

  start() {
    const source = (this.source = context.createBufferSource());
    source.buffer = this.buffer;
    source.loop = this.loop.checked;
    const splitter = context.createChannelSplitter(this.radios.length);
    source.connect(splitter);
    this.gains = this.radios.map((_, channel) => {
      const gain = context.createGain();
      gain.gain.value = 0;
      splitter.connect(gain, channel).connect(context.destination);
      return gain.gain;
    });
    this.choose(0.01);
    source.onended = () => source === this.source && this.pause(this.duration);
    this.started = context.currentTime - this.offset;
    source.start(0, this.offset);
    playing = this;
    this.play.setAttribute("aria-pressed", "true");
    this.follow();
  }

  pause(at = this.position()) {
    if (!this.source) return;
    this.silence();
    this.offset = at;
    playing = undefined;
    this.play.setAttribute("aria-pressed", "false");
    this.show();
  }

  // A source ends when it is no longer heard: cut off in full swing it would click.
  silence() {
    const now = context.currentTime;
    for (const gain of this.gains) gain.cancelScheduledValues(now).setTargetAtTime(0, now, 0.005);
    this.source.stop(now + 0.05);
    this.source = undefined;
  }

  choose(seconds) {
    if (!this.source) return;
    this.radios.forEach((radio, channel) =>
      this.gains[channel].setTargetAtTime(radio.checked ? 1 : 0, context.currentTime, seconds / 3));
  }

  moveTo(seconds) {
    const was = this.source;
    if (was) this.silence();
    this.offset = Math.min(Math.max(seconds, 0), this.duration);
    if (was) this.start();
    else this.show();
  }

  position() {
    if (!this.source) return this.offset;
    // Until a sound that was begun reaches the ear it stands at its beginning.
    const run = context.currentTime - this.started - (context.outputLatency || 0);
    const heard = Math.max(run, this.offset);
    return this.source.loop ? heard % this.duration : Math.min(heard, this.duration);
  }

  follow() {
    cancelAnimationFrame(this.frame);
    if (!this.source) return;
    this.show();
    this.frame = requestAnimationFrame(() => this.follow());
  }

  show() {
    const at = this.position();
    place(this.article, at / this.drawn);
    this.seek.value = at;
    const time = `${at.toFixed(1)} / ${this.duration.toFixed(1)} s`;
    if (this.time.value !== time) this.time.value = time;
    if (!this.source) this.seek.setAttribute("aria-valuetext", `${at.toFixed(1)} seconds`);
  }

  tell(error) {
    this.article.querySelector(".status").textContent = `Cannot be played: ${error.message}`;
  }
}

function browse(browser) {
  const slider = browser.querySelector(".choose");
  const stack = browser.querySelector(".stack");
  const count = Number(browser.dataset.count);
  let basis;

  const hertz = (value) => `${Number(Math.abs(value).toPrecision(4)).toLocaleString("en")} Hz`;

  function show() {
    const component = Number(slider.value);
    place(browser, (component + 0.5) / count);
    if (!basis) return;
    const text = `Component ${component + 1} of ${count} at ${hertz(basis.frequencies[component])}`;
    browser.querySelector(".chosen").textContent = text;
    slider.setAttribute("aria-valuetext", text);
    for (const path of browser.querySelectorAll("[data-curve]")) {
      const all = basis.responses[path.dataset.curve];
      const row = all.subarray(component * basis.points, (component + 1) * basis.points);
      const line = [...row].map((level, point) => `${point + 0.5} ${255 - level}`).join("L");
      path.setAttribute("d", `M0 255L${line}L${basis.points} 255Z`);
    }
  }

  slider.oninput = show;
  stack.onclick = (event) => {
    const box = stack.getBoundingClientRect();
    slider.value = Math.floor(((event.clientX - box.left) / box.width) * count);
    show();
  };
  show();
  new IntersectionObserver(async (seen, observer) => {
    if (!seen.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    try {
      const found = await load("basis");
      for (const [curve, text] of Object.entries(found.responses)) found.responses[curve] = bytes(text);
      basis = found;
      show();
    } catch (error) {
      browser.querySelector(".chosen").textContent = error.message;
    }
  }, { rootMargin: "400px" }).observe(browser);
}

document.querySelectorAll(".example").forEach((article) => new Player(article));
document.querySelectorAll(".browser").forEach(browse);
