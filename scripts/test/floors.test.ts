import { assert, describe, it } from "@effect/vitest"
import { parse, problemsOf } from "../check-floors.ts"

const text =
  "words\n\n```\npackages/x/src\nTop.ts  the face\nroom/  below  it\nroom/deep/ Base.ts  the ground\n```\n\nmore words\n"

const floors = [["Top.ts"], ["room/"], ["room/deep/", "Base.ts"]]

const check = (modules: Record<string, ReadonlyArray<string>>) =>
  problemsOf(
    floors,
    new Map(
      Object.entries(modules).map(([file, imports]) => [
        file,
        imports.map((path) => `import { a } from "${path}"`).join("\n")
      ])
    )
  )

const sound = {
  "Top.ts": ["./room/a.ts", "./Base.ts"],
  "room/a.ts": ["./b.ts", "./deep/c.ts"],
  "room/b.ts": ["effect", "../Base.ts"],
  "room/deep/c.ts": ["../../Base.ts"],
  "Base.ts": []
}

describe("the check of the floors", () => {
  it("reads them from the document, the highest first", () => {
    assert.deepStrictEqual(parse(text), [{ source: "packages/x/src", floors }])
  })

  it("is content where arrows point down or stay on a floor", () => {
    assert.deepStrictEqual(check(sound), [])
  })

  it("names an arrow up, by the longest name that fits a file", () => {
    assert.deepStrictEqual(check({ ...sound, "room/deep/c.ts": ["../b.ts"] }), [
      "room/deep/c.ts imports room/b.ts, which is above it"
    ])
  })

  it("names files that import each other in a circle, also on one floor", () => {
    const [problem, ...others] = check({ ...sound, "room/b.ts": ["./a.ts"] })
    assert.deepStrictEqual(others, [])
    assert.include(problem, "room/a.ts, room/b.ts import each other in a circle")
  })

  it("names a file on no floor, and a floor without a file", () => {
    const { "Base.ts": _, ...rest } = sound
    assert.deepStrictEqual(check({ ...rest, "Other.ts": [] }), [
      "Other.ts is on no floor",
      "Base.ts stands on a floor and is no file or folder"
    ])
  })
})
