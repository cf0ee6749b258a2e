/**
 * The JSON that the command prints where it is not a `View` of the library alone. Fields are only ever added.
 */
import { type Agent, CleanupReport, type DeployError, type Step, View } from "@slipway/core"

const outcomes = {
  Released: "released",
  AlreadyGone: "already-gone",
  Kept: "kept",
  Survivors: "survivors",
  Failed: "failed"
} as const

/** A deployment that committed. */
export const deployed = (agent: Agent.Agent) => {
  const view = View.agent(agent)
  return {
    success: true,
    agent_id: view.agent_id,
    type: view.type,
    task_id: view.task_id,
    parent: view.parent,
    depth: view.depth,
    status: "deployed",
    tmux_session: view.tmux_session,
    workspace: view.workspace,
    prompt_file: view.prompt_file,
    log_file: view.log_file,
    started_at: view.started_at,
    deployment_method: "tmux session"
  }
}

const cleaned = (report: CleanupReport.CleanupReport, resource: Parameters<typeof CleanupReport.outcomeOf>[1]) => {
  const outcome = CleanupReport.outcomeOf(report, resource)
  return outcome === null ? null : outcomes[outcome._tag]
}

const own: ReadonlySet<string> = new Set(["tmux_session", "prompt_file", "task_registry", "global_registry"])

/** A deployment that did not commit; one that never began has an empty report. */
export const notDeployed = (failed: {
  readonly error: string
  readonly tag: string
  readonly step: Step
  readonly agentId?: string | null
  readonly report?: CleanupReport.CleanupReport
}) => {
  const report = failed.report ?? CleanupReport.empty
  return {
    success: false,
    error: failed.error,
    error_tag: failed.tag,
    step: failed.step,
    agent_id: failed.agentId ?? null,
    cleanup_performed: CleanupReport.performed(report),
    resources_cleaned: {
      tmux_session: cleaned(report, "tmux_session"),
      prompt_file: cleaned(report, "prompt_file"),
      task_registry: cleaned(report, "task_registry"),
      global_registry: cleaned(report, "global_registry"),
      // Those that another program brought along; this one leaves them to it.
      ...Object.fromEntries(
        report.releases.filter(({ resource }) => !own.has(resource)).map(({ resource }) => [
          resource,
          cleaned(report, resource)
        ])
      )
    },
    cleanup_errors: CleanupReport.problems(report)
  }
}

/** A deployment that failed, with the end of what the agent wrote. */
export const deployError = (error: DeployError, message: string) => ({
  ...notDeployed({
    error: message,
    tag: error.reason._tag,
    step: error.step,
    agentId: error.agentId,
    report: error.cleanup
  }),
  ...(error.reason._tag === "AgentExitedEarly" ? { exit_code: error.reason.code, signal: error.reason.signal } : {}),
  ...("stderrTail" in error.reason ? { stderr_tail: error.reason.stderrTail } : {})
})

/** Any other failure. */
export const failed = (error: string, tag: string) => ({ success: false, error, error_tag: tag })
