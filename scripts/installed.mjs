/**
 * Compares what is installed in `node_modules` with what `package-lock.json` pins, and prints each difference on a
 * line. It asks no registry and writes nothing. Exit 0: what is installed is what is pinned; 1: it is not.
 *
 * A registry need not carry every optional package, so one may be missing. One that the lock file does not name is
 * accepted when a pinned package asks for exactly that version. With `--whole` an optional package that is pinned for
 * this very platform may not be missing either: what passes that needs no installation.
 *
 * Stays on what Node 18 can run: `scripts/setup` calls it with the Node of the system.
 */
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const whole = process.argv.includes("--whole")

/** The content of a JSON file; nothing where there is no such file. */
const read = (...path) => {
  let text
  try {
    text = readFileSync(join(root, ...path), "utf8")
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined
    throw error
  }
  return JSON.parse(text)
}

const libc = () =>
  process.platform !== "linux"
    ? undefined
    : process.report.getReport().header.glibcVersionRuntime === undefined
    ? "musl"
    : "glibc"

/** Whether a package's `os`, `cpu` or `libc`, a name or a list of them, admits this one; without any it admits every one. */
const admits = (list, own) => {
  if (list === undefined) return true
  const names = [list].flat()
  const wanted = names.filter((name) => !name.startsWith("!"))
  return wanted.length > 0 ? wanted.includes(own) : !names.includes(`!${own}`)
}

const isForThisPlatform = ({ cpu, libc: libraries, os }) =>
  (os !== undefined || cpu !== undefined) && admits(os, process.platform) && admits(cpu, process.arch) &&
  (libraries === undefined || admits(libraries, libc()))

const nameOf = (place) => place.slice(place.lastIndexOf("node_modules/") + "node_modules/".length)

const kinds = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"]

/** What a manifest asks for and the lock file has otherwise, of every kind of dependency. */
const unlocked = (manifest, locked) =>
  kinds.flatMap((kind) => {
    const [asked, known] = [manifest[kind] ?? {}, locked[kind] ?? {}]
    return [...new Set([...Object.keys(asked), ...Object.keys(known)])].filter((name) => asked[name] !== known[name])
  })

const lock = read("package-lock.json")
const installed = read("node_modules", ".package-lock.json")
const differences = []

if (lock === undefined) differences.push("package-lock.json is missing")
else if (installed === undefined) differences.push("nothing is installed")
else {
  const pinned = Object.entries(lock.packages)
  // What optional packages the pinned ones ask for, each as name@version.
  const optional = new Set(
    pinned.flatMap(([, { optionalDependencies = {} }]) => Object.entries(optionalDependencies)).map(([name, version]) =>
      `${name}@${version}`
    )
  )

  for (const [place, entry] of pinned) {
    if (!place.includes("node_modules/")) {
      for (const name of unlocked(read(place, "package.json") ?? {}, entry)) {
        differences.push(
          `${
            join(place, "package.json")
          } and package-lock.json disagree about ${name}: run npm install, and commit both`
        )
      }
      continue
    }
    const found = read(place, "package.json")
    if (found === undefined) {
      if (entry.optional !== true || whole && isForThisPlatform(entry)) {
        differences.push(`${place} is missing${entry.version === undefined ? "" : `: ${entry.version} is pinned`}`)
      }
    } else if (entry.version !== undefined && found.version !== entry.version) {
      differences.push(`${place} is ${found.version}: ${entry.version} is pinned`)
    }
  }

  for (const [place, entry] of Object.entries(installed.packages)) {
    if (lock.packages[place] !== undefined) continue
    if (entry.optional === true && optional.has(`${nameOf(place)}@${entry.version}`)) continue
    differences.push(`${place} is ${entry.version}: it is not pinned`)
  }
}

for (const difference of differences) console.log(difference)
process.exitCode = differences.length === 0 ? 0 : 1
