/**
 * Finds the fenced blocks of a page.
 */
export interface Block {
  readonly file: string
  /** Where its fence stands, counted from 1. */
  readonly line: number
  readonly language: string
  /** The words of its fence: the language, and what stands behind it. */
  readonly words: ReadonlyArray<string>
  readonly text: string
}

/** The blocks of a page, in their order. */
export const blocksOf = (file: string, page: string): ReadonlyArray<Block> => {
  const blocks: Array<Block> = []
  const lines = page.split("\n")
  for (let at = 0; at < lines.length; at++) {
    const fence = /^```(\S.*)$/.exec(lines[at] ?? "")
    if (fence === null) continue
    const end = lines.indexOf("```", at + 1)
    const words = (fence[1] ?? "").split(" ")
    blocks.push({ file, line: at + 1, language: words[0] ?? "", words, text: lines.slice(at + 1, end).join("\n") })
    at = end
  }
  return blocks
}
