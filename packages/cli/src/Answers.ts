/**
 * What each command prints with `--json`, as Schemas with a description of every field. The documents of agents, tasks
 * and deployments are the library's; docs/CLI.md is generated from these, and the tests decode every answer by them.
 *
 * Commands refer to the types alone, so that none of this is loaded when they run. Fields are only ever added.
 */
import { DeployDocument, described, Document, Item, ReapPlanDocument } from "@slipway/core"
import { Schema } from "effect"

const Failed = {
  success: described(Schema.Boolean, "Whether the command has done all that it was called for."),
  error: Schema.optionalKey(described(Schema.String, "What went wrong and what to do; absent after a success.")),
  error_tag: Schema.optionalKey(described(Schema.String, "The name of the failure, for programs."))
}

const Agents = described(Schema.Array(Document.AgentDocument), "The agents, each as in `show`.")

export const Deploy = Schema.Union([
  DeployDocument.DeployedDocument,
  Schema.Struct({
    ...DeployDocument.DeployedDocument.fields,
    result: described(
      Schema.NullOr(Document.AgentDocument),
      "With `--wait`: the agent at its end; null where the wait was cut short."
    )
  }),
  DeployDocument.NotDeployedDocument
])

export const Ps = Schema.Struct({ agents: Agents })

export const Show = Schema.Struct({
  ...Document.AgentDocument.fields,
  resources: described(
    Schema.Struct({
      tmux_session: described(Schema.String, "Its tmux session."),
      prompt_file: described(Schema.NullOr(Schema.String), "The file with its prompt; null where it is removed."),
      task_registry: described(Schema.NullOr(Schema.String), "Its entry in the workspace; null where there is none."),
      global_registry: described(Schema.String, "The registry with its row.")
    }),
    "Where its resources are."
  ),
  events: described(
    Schema.Array(Schema.Struct({
      at: described(Schema.DateTimeUtcFromString, "When it was recorded."),
      status: described(Schema.String, "The status since then."),
      detail: described(Schema.String, "What happened, in a sentence.")
    })),
    "What happened to it, oldest first."
  )
})

export const Wait = Schema.Struct({
  ...Failed,
  timed_out: described(Schema.Boolean, "Whether `--timeout` ended the wait."),
  agents: Agents
})

export const Stop = Schema.Struct({
  ...Failed,
  agents: Agents,
  not_found: described(Schema.Array(Schema.String), "The ids that name no agent.")
})

const NotFound = described(Schema.Array(Schema.String), "The ids given by `--stray` that name no stray.")

export const Reap = Schema.Union([
  ReapPlanDocument,
  Schema.Struct({
    ...Failed,
    items: described(
      Schema.Array(Schema.Struct({
        ...Item.fields,
        outcome: described(
          Schema.Literals(["done", "left", "skipped"]),
          "`left` where something is still there; `skipped` where it no longer was as the plan said, or is only reported."
        ),
        status_after: described(
          Schema.NullOr(Schema.String),
          "The row's status afterwards; null where there is no row."
        ),
        problems: described(Schema.Array(Schema.String), "What is left, a sentence for each.")
      })),
      "What became of each item of the plan."
    ),
    not_found: NotFound
  })
])

export const Prune = Schema.Struct({
  ...Failed,
  dry_run: described(Schema.Boolean, "Whether nothing was removed."),
  agents: described(
    Schema.Array(Schema.Struct({
      agent_id: described(Schema.String, "The agent's id."),
      ended_at: described(Schema.DateTimeUtcFromString, "When it ended."),
      bytes: described(Schema.Int, "What its files held."),
      problems: described(Schema.Array(Schema.String), "Why it was kept; empty where it is forgotten."),
      worktree: described(
        Schema.NullOr(Schema.Struct({
          path: described(Schema.String, "Its directory."),
          branch: described(Schema.String, "Its branch."),
          why: described(Schema.String, "Why it could go, or was kept.")
        })),
        "Its own tree; null where it had none."
      )
    })),
    "The agents that were forgotten or kept."
  )
})

export const Diff = Schema.Struct({
  agent_id: described(Schema.String, "The agent's id."),
  base: described(Schema.String, "The commit that its branch began at."),
  from: described(Schema.String, "Where the changes are: its tree, or the reference that has them."),
  patch: described(Schema.String, "What it changed.")
})

export const Land = Schema.Struct({
  success: described(Schema.Literal(true), "The branch has the agent's commits."),
  agent_id: described(Schema.String, "The agent's id."),
  onto: described(Schema.String, "The branch."),
  commit: described(Schema.String, "What the branch is at."),
  how: described(Schema.Literals(["already", "fast-forward", "merge"]), "How the commits came onto it."),
  tree: described(
    Schema.NullOr(Schema.String),
    "The tree whose files moved along; null where the branch is checked out nowhere."
  )
})

export const Doctor = Schema.Struct({
  healthy: described(Schema.Boolean, "Whether nothing has to be done."),
  findings: described(
    Schema.Array(Schema.Struct({
      kind: described(Schema.String, "What kind of finding it is."),
      evidence: described(Schema.String, "What was seen."),
      recommendation: described(Schema.String, "What to do.")
    })),
    "What was found."
  )
})

export const Rebuild = Schema.Struct({
  success: described(Schema.Literal(true), "The registry is rebuilt, or would be."),
  rebuilt: described(Schema.Boolean, "Whether it was done, and not only planned."),
  dry_run: described(Schema.Boolean, "Whether nothing was changed."),
  damage: described(Schema.String, "Why the registry was refused."),
  set_aside: described(Schema.NullOr(Schema.String), "Where the old registry is; null where there was none."),
  tasks: described(Schema.Array(Document.TaskDocument), "The tasks that were restored."),
  agents: described(
    Schema.Array(Schema.Struct({
      agent_id: described(Schema.String, "The agent's id."),
      task_id: described(Schema.String, "Its task."),
      status: described(Schema.String, "The status that its row has now."),
      source: described(Schema.Literals(["row", "entry", "directory"]), "What its row was made from.")
    })),
    "The agents that were restored."
  ),
  problems: described(
    Schema.Array(Schema.Struct({
      subject: described(Schema.String, "What could not be restored."),
      reason: described(Schema.String, "Why.")
    })),
    "What could not be restored; it stays where it is."
  )
})

export const Logs = Schema.Struct({
  agent_id: described(Schema.String, "The agent's id."),
  stream: described(Schema.Literals(["stdout", "stderr"]), "What was read."),
  content: described(Schema.String, "What the agent wrote; bytes that are no UTF-8 are replaced."),
  content_base64: Schema.optionalKey(
    described(Schema.String, "With `--offset` or `--bytes`: the very bytes, also where they cut a character.")
  ),
  offset: Schema.optionalKey(described(Schema.Int, "With `--offset` or `--bytes`: the first byte that was asked for.")),
  next_offset: Schema.optionalKey(described(Schema.Int, "The offset to go on from.")),
  size: Schema.optionalKey(described(Schema.Int, "How many bytes there are so far.")),
  complete: Schema.optionalKey(described(Schema.Boolean, "The agent has ended, and nothing comes after this.")),
  is_tail: Schema.optionalKey(
    described(Schema.Boolean, "The agent was rolled back: offsets count in the end of its output that is kept.")
  )
})

export const Home = Schema.Struct({
  success: described(Schema.Literal(true), "The home could be read, or its limit was set."),
  home_id: described(Schema.String, "The home's id."),
  directory: described(Schema.String, "The home's directory."),
  registry: described(Schema.String, "Its registry."),
  tmux_socket: described(Schema.String, "The socket of its tmux server."),
  limits: described(
    Schema.Struct({ max_active: described(Schema.Int, "How many agents may be active at once.") }),
    "What the home allows."
  )
})

const Count = Schema.Int
const Histogram = {
  buckets: described(
    Schema.Array(Schema.Struct({
      le: described(Schema.String, "The bucket's upper bound, in seconds."),
      count: described(Count, "How many were at most that long.")
    })),
    "The counts up to each bound."
  ),
  count: described(Count, "How many there were."),
  seconds: described(Schema.Finite, "How long all of them took.")
}
const counted = (name: string, what: string) =>
  Schema.Array(Schema.Struct({ [name]: described(Schema.String, what), count: described(Count, "How many.") }))

export const Metrics = Schema.Struct({
  agents: described(
    Schema.Array(Schema.Struct({
      status: described(Schema.String, "Their status."),
      detail: described(Schema.NullOr(Schema.String), "The step of a rollback, who stopped them, or the outcome."),
      count: described(Count, "How many.")
    })),
    "The agents on record."
  ),
  agents_leaked: described(Count, "Those whose end could not release everything."),
  deployments: described(counted("outcome", "`committed` or `rolled-back`."), "Deployments that were admitted."),
  success_rate: described(Schema.NullOr(Schema.Finite), "Those that committed, of all; null before the first."),
  rollbacks: described(counted("step", "The step that failed."), "Deployments that were rolled back."),
  deploy_duration: described(Schema.Struct(Histogram), "From the request to the commit."),
  releases: described(
    Schema.Array(Schema.Struct({
      resource: described(Schema.String, "The kind of resource."),
      outcome: described(Schema.String, "What the release did."),
      count: described(Count, "How many."),
      millis: described(Count, "How long all of them took, in milliseconds."),
      first_at: described(Schema.String, "When the first was recorded."),
      last_at: described(Schema.String, "When the last was recorded."),
      last_reason: described(Schema.NullOr(Schema.String), "The reason that was given last.")
    })),
    "Releases."
  ),
  release_durations: described(
    Schema.Array(Schema.Struct({ resource: described(Schema.String, "The kind of resource."), ...Histogram })),
    "How long releases took."
  ),
  escalations: described(counted("resource", "The kind of resource."), "Releases that had to send KILL."),
  survivors: described(Count, "Processes that outlived KILL."),
  findings: described(counted("verdict", "The verdict of the reaper."), "What reaps found.")
})

const Counted = { ...Document.TaskDocument.fields, ...Document.CountsDocument.fields }

export const TaskCreate = Schema.Struct({
  success: described(Schema.Literal(true), "The task is made."),
  ...Document.TaskDocument.fields
})

export const TaskList = Schema.Struct({
  tasks: described(Schema.Array(Schema.Struct(Counted)), "The tasks, newest first.")
})

type Node = typeof Document.AgentDocument.Type & { readonly children: ReadonlyArray<Node> }
type EncodedNode = Document.AgentDocument & { readonly children: ReadonlyArray<EncodedNode> }
const Node = Schema.Struct({
  ...Document.AgentDocument.fields,
  children: described(
    Schema.Array(Schema.suspend((): Schema.Codec<Node, EncodedNode> => Node)),
    "The agents that it deployed, each with its own."
  )
})

export const TaskShow = Schema.Struct({
  ...Counted,
  agents: described(Schema.Array(Node), "Its agents under their parents, oldest first.")
})

/** By the words of the command. */
export const ofCommand = {
  deploy: Deploy,
  ps: Ps,
  show: Show,
  wait: Wait,
  stop: Stop,
  reap: Reap,
  prune: Prune,
  diff: Diff,
  land: Land,
  doctor: Doctor,
  rebuild: Rebuild,
  logs: Logs,
  home: Home,
  metrics: Metrics,
  "task create": TaskCreate,
  "task list": TaskList,
  "task show": TaskShow
} as const
