/**
 * Reads the Prometheus exposition format 0.0.4, character by character and strictly: what it does not know is refused. It
 * shares nothing with the code that writes it.
 */
import { assert } from "@effect/vitest"

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface Family {
  readonly type: string
  readonly help: string
  readonly samples: ReadonlyArray<Sample>
}

const nameAt = (line: string, from: number): string => /^[a-zA-Z_:][a-zA-Z0-9_:]*/.exec(line.slice(from))?.[0] ?? ""

const quoted = (line: string, from: number): readonly [value: string, end: number] => {
  assert.strictEqual(line[from], "\"", `a label's value is quoted: ${line}`)
  let value = ""
  for (let at = from + 1; at < line.length; at++) {
    if (line[at] === "\"") return [value, at + 1]
    if (line[at] === "\\") {
      const escaped = ({ "\\": "\\", "\"": "\"", n: "\n" } as Record<string, string>)[line[++at] ?? ""]
      value += escaped ?? assert.fail(`an escape that there is not: ${line}`)
    } else value += line[at]
  }
  return assert.fail(`a label's value that does not end: ${line}`)
}

const sampleOf = (line: string): Sample => {
  const name = nameAt(line, 0)
  assert.notStrictEqual(name, "", `not a sample: ${line}`)
  const labels: Record<string, string> = {}
  let at = name.length
  if (line[at] === "{") {
    for (at++; line[at] !== "}";) {
      const label = nameAt(line, at)
      assert.match(label, /^[a-zA-Z_][a-zA-Z0-9_]*$/, line)
      assert.notProperty(labels, label, `no label twice: ${line}`)
      assert.strictEqual(line[at + label.length], "=", line)
      const [value, end] = quoted(line, at + label.length + 1)
      labels[label] = value
      at = line[end] === "," ? end + 1 : end
      if (line[end] !== ",") assert.strictEqual(line[at], "}", line)
    }
    at++
  }
  assert.match(line.slice(at), /^ (?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|\+Inf|NaN)$/, `a value: ${line}`)
  return { name, labels, value: Number(line.slice(at + 1)) }
}

const belongs = (sample: string, family: string, type: string): boolean =>
  type === "histogram" ? ["_bucket", "_sum", "_count"].some((end) => sample === family + end) : sample === family

/** Labels are the same in whatever order they come. */
const keyOf = (labels: Sample["labels"]): string =>
  Object.entries(labels).map((pair) => JSON.stringify(pair)).toSorted((a, b) => a < b ? -1 : 1).join()

/** The families of a text, by name. */
export const parse = (text: string): ReadonlyMap<string, Family> => {
  assert.isTrue(text.endsWith("\n"), "the last line ends too")
  const families = new Map<string, { type: string; help: string; samples: Array<Sample> }>()
  const seen = new Set<string>()
  let name = ""
  for (const line of text.slice(0, -1).split("\n")) {
    if (line.startsWith("# HELP ")) {
      name = nameAt(line, "# HELP ".length)
      assert.isFalse(families.has(name), `${name} comes once`)
      families.set(name, { type: "", help: line.slice("# HELP ".length + name.length + 1), samples: [] })
    } else if (line.startsWith("# TYPE ")) {
      const [, of, type = ""] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? assert.fail(line)
      const family = families.get(name) ?? assert.fail(`help comes first: ${line}`)
      assert.deepStrictEqual([of, family.type, family.samples], [name, "", []], line)
      assert.strictEqual(type === "counter", name.endsWith("_total"), `a counter is called so: ${name}`)
      family.type = type
    } else {
      const sample = sampleOf(line)
      const family = families.get(name) ?? assert.fail(`a family comes first: ${line}`)
      assert.isTrue(belongs(sample.name, name, family.type), `samples stand with their family: ${line}`)
      const key = `${sample.name} ${keyOf(sample.labels)}`
      assert.isFalse(seen.has(key), `no sample twice: ${line}`)
      seen.add(key)
      family.samples.push(sample)
    }
  }
  for (const [name, { samples, type }] of families) {
    assert.notStrictEqual(type, "", `${name} has a type`)
    if (type === "histogram") histograms(name, samples)
  }
  return families
}

const rest = (labels: Sample["labels"]): string =>
  keyOf(Object.fromEntries(Object.entries(labels).filter(([label]) => label !== "le")))

/** Buckets rise in bound and count, and the last is beyond all bounds and counts everything. */
const histograms = (name: string, samples: ReadonlyArray<Sample>): void => {
  for (const [key, series] of Map.groupBy(samples, ({ labels }) => rest(labels))) {
    const of = (end: string) => series.filter((sample) => sample.name === name + end)
    const buckets = of("_bucket")
    assert.deepStrictEqual([of("_sum").length, of("_count").length], [1, 1], `${name} ${key}`)
    const bounds = buckets.map(({ labels }) => labels["le"] === "+Inf" ? Infinity : Number(labels["le"]))
    assert.strictEqual(bounds.at(-1), Infinity, `${name} ${key} ends in +Inf`)
    for (let index = 1; index < buckets.length; index++) {
      assert.isAbove(bounds[index] ?? NaN, bounds[index - 1] ?? NaN, `${name} ${key}`)
      assert.isAtLeast(buckets[index]?.value ?? NaN, buckets[index - 1]?.value ?? NaN, `${name} ${key}`)
    }
    assert.strictEqual(buckets.at(-1)?.value, of("_count")[0]?.value, `${name} ${key}`)
  }
}

/** The values of a family's samples by their labels, as text; only those of one name when it is given. */
export const values = (
  families: ReadonlyMap<string, Family>,
  name: string,
  sample = name
): Readonly<Record<string, number>> =>
  Object.fromEntries(
    (families.get(name)?.samples ?? assert.fail(`there is no ${name}`)).filter((each) => each.name === sample)
      .map(({ labels, value }) => [Object.values(labels).join(" "), value])
  )
