/** Files as a survey reads them: what can't be read is not there, and whoever asks says what follows from that. */
import { Effect, Option } from "effect"
import type { Files } from "../machine/Files.ts"

export const text = (files: Files["Service"], path: string): Effect.Effect<string | undefined> =>
  Effect.map(Effect.option(files.readText(path)), Option.getOrUndefined)

export const names = (files: Files["Service"], path: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.orElseSucceed(files.list(path), () => [])
