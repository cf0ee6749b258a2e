/**
 * For programs that deploy and print: a reader that leaves, as `head` does, ends nothing early.
 *
 * What is printed from then on is lost, and all that was made is released at the end as always. Without this, Node ends
 * a program at the first line that has no reader, in the middle of everything.
 */
export const outlive = (): void => {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {})
}
