/**
 * The command `slipway`.
 */
import * as AtStart from "./AtStart.ts"
import { main } from "./Main.ts"
import { runMain } from "./RunMain.ts"

// It is about this process alone.
delete process.env[AtStart.variable]

runMain(main(process.argv.slice(2)))
