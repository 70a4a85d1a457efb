// TRIAL_RATE requests a second to TRIAL_HOST, whatever the answers, for the paths in TRIAL_PATHS. Put your own scenario in its place.
import http from "k6/http";
import exec from "k6/execution";

const paths = __ENV.TRIAL_PATHS.split(",");
// Not followed, and an error: a redirect may lead to the service that people use.
const params = { headers: { Host: __ENV.TRIAL_HOST }, redirects: 0, tags: { name: "all" } };
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }));

export const options = {
  discardResponseBodies: true,
  // As a proxy before the workers does it: idle connections would take their places.
  noConnectionReuse: true,
  summaryTrendStats: ["med", "p(90)", "p(95)", "p(99)", "max"],
  scenarios: {
    all: {
      executor: "constant-arrival-rate",
      // Whole numbers only: so many a minute.
      rate: Math.max(1, Math.round(Number(__ENV.TRIAL_RATE) * 60)),
      timeUnit: "1m",
      duration: `${__ENV.TRIAL_SECONDS}s`,
      gracefulStop: "5s",
      preAllocatedVUs: 50,
      maxVUs: 1000,
    },
  },
};

export default function () {
  http.get(`${__ENV.TRIAL_URL}${paths[exec.scenario.iterationInTest % paths.length]}`, params);
}
