/**
 * The command `slipway`.
 */
import { main } from "./Main.ts"
import { runMain } from "./RunMain.ts"

runMain(main(process.argv.slice(2)))
