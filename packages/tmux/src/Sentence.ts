/**
 * Errors that say their sentence however they are shown.
 *
 * A tagged error of Effect prints its fields alone: `console.log` and `JSON.stringify` leave its message out.
 */
import { Inspectable } from "effect"

/** Lets the errors of a class show their message before their fields, in `console.log` and in JSON. */
export const shown = (constructor: { readonly prototype: Error & { readonly _tag: string } }): void => {
  const show = function(this: Error & { readonly _tag: string }) {
    return Object.assign({ _tag: this._tag, message: this.message }, this)
  }
  Object.defineProperties(constructor.prototype, {
    toJSON: { value: show },
    [Inspectable.NodeInspectSymbol]: { value: show }
  })
}
