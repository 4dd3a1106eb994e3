/** Scenarios: a host, operations, live updates, expectations. See form.ts, run.ts and docs/SCENARIOS.md. */
export { parseScenario, readScenario, type Scenario, scenarioLimits } from "./form.ts";
export { type Failure, runScenario, type ScenarioOptions, type ScenarioReport, type StepReport } from "./run.ts";
