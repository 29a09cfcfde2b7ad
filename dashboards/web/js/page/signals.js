// Events that carry a value of a known type.

/**
 * Signals is a source of events; E names them and the value of each.
 * @template {object} E
 */
export class Signals extends EventTarget {
  /**
   * on calls take with the value of each event of a name.
   * @template {keyof E & string} K
   * @param {K} name
   * @param {(value: E[K]) => void} take
   */
  on(name, take) {
    this.addEventListener(name, (e) => take(/** @type {CustomEvent<E[K]>} */ (e).detail));
  }

  /**
   * emit calls the listeners of an event at once.
   * @template {keyof E & string} K
   * @param {K} name
   * @param {E[K]} value
   */
  emit(name, value) {
    this.dispatchEvent(new CustomEvent(name, { detail: value }));
  }
}
