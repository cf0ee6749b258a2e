/**
 * Slipway with a layer in memory beside the real one.
 */
import { Slipway as Real } from "../Slipway.ts"
import { layerMemory } from "./Machine.ts"

/**
 * The service of `@slipway/core`, and the same key: a program that needs the one has it by the other.
 */
export class Slipway extends Real {
  /**
   * Slipway without tmux, disk or process: `Machine` is what it runs on. Agents do what the scripts in `agents` say, and
   * end with the layer. All time is the test's clock; `elapse` lets it pass.
   */
  static readonly layerMemory = layerMemory
}
