-- 1. The calls, each once, with the few fields that answer who. This is the only
-- statement that reads the trail: restrict it here, for instance by
-- day >= '2026/07/01', but begin half a day (the longest session) before the
-- calls in question, so that what began their sessions is there.
CREATE TABLE who_calls WITH (format = 'PARQUET') AS
WITH raw AS (
  SELECT
    coalesce(eventid, '') AS id,
    CAST(floor(to_unixtime(from_iso8601_timestamp(nullif(regexp_extract(eventtime, '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$'), '')))) AS bigint) AS unix,
    eventsource AS service,
    eventname AS action,
    coalesce(awsregion, '') AS region,
    coalesce(sourceipaddress, '') AS address,
    coalesce(errorcode, '') AS error_code,
    coalesce(recipientaccountid, '') AS recipient,
    coalesce(useridentity.type, '') AS caller_type,
    coalesce(useridentity.principalid, '') AS principal,
    coalesce(useridentity.arn, '') AS arn,
    coalesce(useridentity.accountid, '') AS caller_account,
    coalesce(useridentity.accesskeyid, '') AS key_id,
    coalesce(useridentity.username, '') AS user_name,
    coalesce(useridentity.invokedby, '') AS invoked_by,
    coalesce(useridentity.sessioncontext.sourceidentity, '') AS raw_source,
    coalesce(CAST(floor(to_unixtime(from_iso8601_timestamp(nullif(regexp_extract(useridentity.sessioncontext.attributes.creationdate, '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$'), '')))) AS bigint), 0) AS created,
    coalesce(useridentity.sessioncontext.sessionissuer.arn, '') AS issuer,
    coalesce(useridentity.onbehalfof.userid, '') AS person,
    coalesce(useridentity.inscopeof.sourcearn, '') AS scope,
    row_number() OVER (PARTITION BY eventid ORDER BY eventtime) AS delivery,
    CASE WHEN eventsource IN ('sts.amazonaws.com', 'sagemaker.amazonaws.com', 'athena.amazonaws.com', 'lakeformation.amazonaws.com')
      THEN requestparameters END AS request,
    CASE WHEN eventsource IN ('sts.amazonaws.com', 'sagemaker.amazonaws.com', 'athena.amazonaws.com')
      THEN responseelements END AS response,
    CASE WHEN eventsource = 'lakeformation.amazonaws.com' THEN additionaleventdata END AS additional,
    CASE WHEN eventsource = 'sts.amazonaws.com'
      AND eventname IN ('AssumeRole', 'AssumeRoleWithSAML', 'AssumeRoleWithWebIdentity', 'AssumeRoot', 'GetSessionToken', 'GetFederationToken')
      THEN true ELSE false END AS issues
  FROM cloudtrail_logs
  WHERE eventsource IS NOT NULL AND eventname IS NOT NULL AND eventid <> ''
    AND regexp_like(eventtime, '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$')
), parts AS (
  SELECT raw.*,
    caller_type = 'AssumedRole' OR caller_type = 'AWSAccount' AND strpos(principal, ':') > 0 AS role_session,
    caller_type = 'AWSService' OR caller_type = '' AND invoked_by <> '' AS by_service,
    CASE WHEN strpos(principal, ':') > 0 THEN substr(principal, strpos(principal, ':') + 1)
      ELSE coalesce(regexp_extract(arn, ':assumed-role/[^/]*/(.*)$', 1), '') END AS any_session,
    CASE WHEN issues THEN coalesce(json_extract_scalar(response, '$.credentials.accessKeyId'), '') ELSE '' END AS issued_key,
    CASE WHEN issues THEN coalesce(json_extract_scalar(response, '$.assumedRoleUser.assumedRoleId'), '') ELSE '' END AS issued_unique,
    CASE WHEN issues THEN coalesce(json_extract_scalar(request, '$.roleArn'), '') ELSE '' END AS issued_role,
    CASE WHEN issues THEN coalesce(nullif(json_extract_scalar(response, '$.sourceIdentity'), ''), json_extract_scalar(request, '$.sourceIdentity'), '') ELSE '' END AS raw_issued_source,
    CASE WHEN issues THEN coalesce(json_extract_scalar(request, '$.roleSessionName'), '') ELSE '' END AS asked_session,
    CASE WHEN action = 'CreatePresignedNotebookInstanceUrl' AND error_code = '' THEN coalesce(json_extract_scalar(request, '$.notebookInstanceName'), '')
      WHEN action = 'CreatePresignedDomainUrl' AND error_code = '' THEN coalesce(json_extract_scalar(request, '$.userProfileName'), '')
      ELSE '' END AS opened,
    CASE WHEN service = 'sagemaker.amazonaws.com' AND action IN ('CreateNotebookInstance', 'StartNotebookInstance') AND error_code = ''
      THEN coalesce(json_extract_scalar(request, '$.notebookInstanceName'), '') ELSE '' END AS instance_started,
    CASE WHEN service <> 'sagemaker.amazonaws.com' OR error_code <> '' THEN ''
      WHEN action = 'CreateTrainingJob' THEN coalesce(json_extract_scalar(response, '$.trainingJobArn'), '')
      WHEN action = 'CreateProcessingJob' THEN coalesce(json_extract_scalar(response, '$.processingJobArn'), '')
      WHEN action = 'CreateTransformJob' THEN coalesce(json_extract_scalar(response, '$.transformJobArn'), '')
      WHEN action = 'CreateHyperParameterTuningJob' THEN coalesce(json_extract_scalar(response, '$.hyperParameterTuningJobArn'), '')
      WHEN action IN ('CreateAutoMLJob', 'CreateAutoMLJobV2') THEN coalesce(json_extract_scalar(response, '$.autoMLJobArn'), '')
      WHEN action = 'StartPipelineExecution' THEN coalesce(json_extract_scalar(response, '$.pipelineExecutionArn'), '')
      ELSE '' END AS job,
    service = 'lakeformation.amazonaws.com' AND action = 'GetDataAccess' AND error_code = '' AS grants,
    CASE WHEN service = 'athena.amazonaws.com' AND action = 'StartQueryExecution'
        THEN lower(coalesce(json_extract_scalar(response, '$.queryExecutionId'), ''))
      WHEN service = 'lakeformation.amazonaws.com' AND action = 'GetDataAccess' AND error_code = ''
        -- Athena's audit context is {queryId: uuid}, which is not JSON.
        THEN lower(coalesce(nullif(regexp_extract(json_extract_scalar(request, '$.auditContext.additionalAuditContext'),
          '(?i)queryId["'']?\s*[:=]\s*["'']?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})', 1), ''),
          json_extract_scalar(request, '$.querySessionContext.queryId'), ''))
      ELSE '' END AS query_id,
    CASE WHEN service = 'lakeformation.amazonaws.com' AND action = 'GetDataAccess'
      THEN coalesce(json_extract_scalar(additional, '$.lakeFormationRoleSessionName'), '') ELSE '' END AS lake_session
  FROM raw
  WHERE delivery = 1
), sessions AS (
  SELECT parts.*,
    CASE WHEN role_session THEN any_session ELSE '' END AS session_name,
    CASE WHEN asked_session <> '' THEN asked_session
      WHEN strpos(issued_unique, ':') > 0 THEN substr(issued_unique, strpos(issued_unique, ':') + 1)
      ELSE '' END AS issued_session
  FROM parts
)
SELECT
  id, unix, service, action, region, address, error_code, recipient,
  caller_type, principal, arn, caller_account, key_id, user_name, invoked_by, raw_source, created, issuer, person, scope,
  role_session, by_service, session_name, issued_key, issued_unique, issued_role, issued_session, opened, instance_started, job, grants, query_id, lake_session,
  -- Lake Formation's own source identity, V2.account.AROA..., names the querying role.
  CASE WHEN regexp_like(raw_source, '^V2\.\d{12}\.ARO[A-Z0-9]+$') THEN ''
    WHEN regexp_like(raw_source, '^nb_[A-Za-z0-9]$') THEN substr(raw_source, 4) ELSE raw_source END AS source,
  CASE WHEN regexp_like(raw_issued_source, '^V2\.\d{12}\.ARO[A-Z0-9]+$') THEN ''
    WHEN regexp_like(raw_issued_source, '^nb_[A-Za-z0-9]$') THEN substr(raw_issued_source, 4) ELSE raw_issued_source END AS issued_source,
  CASE WHEN regexp_like(session_name, '^nb_[A-Za-z0-9]$') THEN substr(session_name, 4) ELSE session_name END AS spoken_name,
  CASE WHEN regexp_like(issued_session, '^nb_[A-Za-z0-9]$') THEN substr(issued_session, 4) ELSE issued_session END AS issued_name,
  -- Under these names AWS hands credentials to machines; AWS and SDKs make up the others.
  regexp_like(session_name, '^(SageMaker|GlueJobRunnerSession|i-[0-9a-f]{8,17})$') AS machine,
  regexp_like(issued_session, '^(SageMaker|GlueJobRunnerSession|i-[0-9a-f]{8,17})$') AS issued_machine,
  regexp_like(session_name, '^(SageMaker|GlueJobRunnerSession|i-[0-9a-f]{8,17}|AWSLF-.*|(aws-go-sdk-|botocore-session-|aws-sdk-js-|aws-sdk-java-|AWS-CLI-session-)[0-9]+|)$') AS generic,
  regexp_like(issued_session, '^(SageMaker|GlueJobRunnerSession|i-[0-9a-f]{8,17}|AWSLF-.*|(aws-go-sdk-|botocore-session-|aws-sdk-js-|aws-sdk-java-|AWS-CLI-session-)[0-9]+|)$') AS issued_generic,
  concat(key_id, ' ', principal, ' ', CAST(created AS varchar), ' ', issuer, ' ', session_name, ' ', CASE WHEN invoked_by = '' THEN 'direct' ELSE 'forwarded' END) AS caller
FROM sessions;

-- 2. The credentials that STS issued. Two accounts may have received the record; the
-- copy that says more about the caller counts.
CREATE TABLE who_issues WITH (format = 'PARQUET') AS
SELECT who_calls.*,
  row_number() OVER (
    PARTITION BY CASE WHEN issued_key = '' THEN id ELSE issued_key END
    ORDER BY CASE WHEN key_id <> '' THEN 1 ELSE 0 END + CASE WHEN arn <> '' THEN 1 ELSE 0 END + CASE WHEN raw_source <> '' THEN 1 ELSE 0 END
      + CASE WHEN issuer <> '' THEN 1 ELSE 0 END + CASE WHEN issued_unique <> '' THEN 1 ELSE 0 END DESC, unix, id) AS copy
FROM who_calls
WHERE issued_key <> '' OR issued_unique <> '';

-- 3. Which issue a caller's credentials come from: by the access key, else by the
-- session and the second that it began. fits counts the issues that may be it.
CREATE TABLE who_links WITH (format = 'PARQUET') AS
WITH callers AS (
  SELECT DISTINCT caller, key_id, principal, created, issuer, session_name, invoked_by <> '' AS forwarded
  FROM who_calls WHERE role_session
), starts AS (
  SELECT id, issued_key, unix, issued_unique AS who FROM who_issues WHERE copy = 1 AND issued_unique <> ''
  UNION ALL
  SELECT id, issued_key, unix, concat(issued_role, '/', issued_session) AS who FROM who_issues WHERE copy = 1 AND concat(issued_role, issued_session) <> ''
), by_key AS (
  SELECT c.caller, i.id AS session
  FROM callers c JOIN who_issues i ON i.issued_key = c.key_id
  WHERE i.copy = 1 AND c.key_id <> ''
), others AS (
  SELECT c.* FROM callers c LEFT JOIN by_key k ON k.caller = c.caller
  WHERE k.caller IS NULL AND c.created <> 0
), by_principal AS (
  SELECT c.*, s.id AS session, s.issued_key
  FROM others c JOIN starts s ON s.who = c.principal AND s.unix = c.created
), by_issuer AS (
  SELECT c.*, s.id AS session, s.issued_key
  FROM others c
  LEFT JOIN (SELECT DISTINCT caller FROM by_principal) p ON p.caller = c.caller
  JOIN starts s ON s.who = concat(c.issuer, '/', c.session_name) AND s.unix = c.created
  WHERE p.caller IS NULL AND c.issuer <> ''
), by_start AS (
  SELECT * FROM by_principal UNION ALL SELECT * FROM by_issuer
)
SELECT caller, session, 'access_key' AS rung, CAST(1 AS bigint) AS fits FROM by_key
UNION ALL
-- A caller that shows its own key did not get it where another key was issued. Only
-- services call with keys of their own.
SELECT caller, session, 'session_start' AS rung, count(*) OVER (PARTITION BY caller) AS fits
FROM by_start
WHERE NOT (key_id <> '' AND NOT forwarded AND issued_key <> '');

-- 4. The issues with what asked for them, and the name that base credentials claimed by
-- it: the source identity, or the session name if the role assumed itself.
CREATE TABLE who_steps WITH (format = 'PARQUET') AS
SELECT i.*,
  coalesce(p.id, '') AS parent,
  i.role_session AND i.machine AND (p.id IS NULL OR p.by_service) AS base,
  CASE WHEN i.issued_source <> '' THEN i.issued_source
    WHEN i.issued_generic THEN ''
    WHEN i.issued_role <> '' AND i.issued_role = i.issuer THEN i.issued_name
    WHEN strpos(i.issued_unique, ':') > 1 AND strpos(i.principal, ':') > 1
      AND substr(i.issued_unique, 1, strpos(i.issued_unique, ':')) = substr(i.principal, 1, strpos(i.principal, ':')) THEN i.issued_name
    ELSE '' END AS claimed
FROM who_issues i
LEFT JOIN who_links l ON l.caller = i.caller AND l.fits = 1 AND i.role_session
LEFT JOIN who_issues p ON p.id = l.session AND p.copy = 1
WHERE i.copy = 1;

-- 5. Base credentials, and the names that they claimed. Two names, or one from an
-- address where another is at home, are a dispute; addresses may tell the owner.
CREATE TABLE who_bases WITH (format = 'PARQUET') AS
WITH uses AS (
  SELECT key_id, principal, created, source, unix, claimed, issued_source,
    row_number() OVER (PARTITION BY key_id ORDER BY unix, id) AS use,
    CASE WHEN regexp_like(address, '^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$|:') THEN address ELSE '' END AS address
  FROM who_steps WHERE base AND key_id <> '' AND invoked_by = ''
), keys AS (
  SELECT key_id, max(CASE WHEN use = 1 THEN principal ELSE '' END) AS principal, max(CASE WHEN use = 1 THEN created ELSE 0 END) AS created,
    max(CASE WHEN use = 1 THEN source ELSE '' END) AS source,
    count(DISTINCT nullif(claimed, '')) AS names, max(claimed) AS name, bool_and(claimed = '' OR issued_source <> '') AS sourced
  FROM uses GROUP BY key_id
), single AS (
  SELECT u.key_id, u.address, u.claimed AS name, u.unix
  FROM uses u JOIN keys k ON k.key_id = u.key_id
  WHERE k.names = 1 AND u.claimed <> '' AND u.address <> ''
), here AS (
  -- Half hours with claims: the daemon claims in each, a forger as often as it likes.
  SELECT address, name, count(DISTINCT unix - unix % 1800) AS claims FROM single GROUP BY address, name
), homes AS (
  SELECT address, name, claims, total FROM (
    SELECT here.*, sum(claims) OVER (PARTITION BY name) AS total,
      row_number() OVER (PARTITION BY name ORDER BY claims DESC, address) AS place
    FROM here
  ) ranked WHERE place = 1
), suspects AS (
  SELECT s.key_id, s.unix, s.address, m.name AS resident, away.address AS home
  FROM single s
  JOIN homes away ON away.name = s.name AND away.address <> s.address
  JOIN here mine ON mine.address = s.address AND mine.name = s.name
  JOIN homes m ON m.address = s.address AND m.name <> s.name AND m.claims > mine.claims AND 5 * m.claims >= 4 * m.total
), strangers AS (
  SELECT DISTINCT x.key_id
  FROM suspects x
  JOIN single n ON n.address = x.address AND n.name = x.resident AND n.unix BETWEEN x.unix - 7200 AND x.unix + 7200
  LEFT JOIN here shared ON shared.address = x.home AND shared.name = x.resident
  WHERE shared.name IS NULL
), sound AS (
  SELECT DISTINCT s.address, s.name, s.unix
  FROM single s LEFT JOIN strangers f ON f.key_id = s.key_id
  WHERE f.key_id IS NULL
), residents AS (
  SELECT d.key_id, d.use, min(s.name) AS name
  FROM uses d
  JOIN keys k ON k.key_id = d.key_id
  JOIN sound s ON s.address = d.address AND s.unix BETWEEN d.unix - 86400 AND d.unix + 86400
  WHERE d.claimed <> '' AND k.names > 1
  GROUP BY d.key_id, d.use HAVING count(DISTINCT s.name) = 1
), owners AS (
  SELECT r.key_id, min(r.name) AS owner
  FROM residents r
  JOIN (SELECT DISTINCT key_id, claimed FROM uses) c ON c.key_id = r.key_id AND c.claimed = r.name
  GROUP BY r.key_id HAVING count(DISTINCT r.name) = 1
)
SELECT k.key_id, k.principal, k.created, k.source, k.name, k.names, k.sourced,
  count(*) OVER (PARTITION BY k.principal, k.created) AS same_start,
  k.names > 1 OR f.key_id IS NOT NULL AS disputed,
  CASE WHEN k.names > 1 THEN coalesce(o.owner, '') ELSE '' END AS owner
FROM keys k
LEFT JOIN strangers f ON f.key_id = k.key_id
LEFT JOIN owners o ON o.key_id = k.key_id;

-- 6. Names that something vouches for, names that notebooks claimed, and the roles
-- that notebooks run as.
CREATE TABLE who_names WITH (format = 'PARQUET') AS
WITH claims AS (
  SELECT s.* FROM who_steps s WHERE s.base AND s.key_id <> '' AND s.invoked_by = '' AND s.claimed <> ''
)
SELECT 'known' AS sort, source AS name FROM who_calls WHERE source <> ''
UNION SELECT 'known' AS sort, opened AS name FROM who_calls WHERE opened <> '' AND service = 'sagemaker.amazonaws.com'
UNION SELECT 'known' AS sort, claimed AS name FROM claims
UNION SELECT 'notebook' AS sort, claimed AS name FROM claims
UNION SELECT 'role' AS sort, issuer AS name FROM claims WHERE issuer <> ''
UNION SELECT 'role' AS sort, substr(principal, 1, strpos(principal, ':') - 1) AS name FROM claims WHERE strpos(principal, ':') > 1
UNION SELECT 'role' AS sort, issued_role AS name FROM claims WHERE issued_role <> '' AND claimed = issued_name
UNION SELECT 'role' AS sort, substr(issued_unique, 1, strpos(issued_unique, ':') - 1) AS name FROM claims WHERE strpos(issued_unique, ':') > 1 AND claimed = issued_name;

-- 7. Who holds a caller's credentials as far as these tell by themselves: base
-- credentials by what they claimed elsewhere, others by the session name. A role without
-- an ARN may be of any account, where anybody may choose the name.
CREATE TABLE who_roots WITH (format = 'PARQUET') AS
WITH callers AS (
  SELECT DISTINCT caller, key_id, principal, created, issuer, session_name, spoken_name, invoked_by <> '' AS forwarded, machine, generic
  FROM who_calls WHERE role_session
), found AS (
  SELECT c.*, coalesce(k.key_id, b.key_id, '') AS base_key, n.name IS NOT NULL AND (c.issuer <> '' OR i.name IS NOT NULL) AS known, r.name IS NOT NULL AS notebook_role
  FROM callers c
  LEFT JOIN who_bases k ON k.key_id = c.key_id AND c.machine
  LEFT JOIN who_bases b ON b.principal = c.principal AND b.created = c.created AND b.same_start = 1 AND c.machine AND (c.key_id = '' OR c.forwarded)
  LEFT JOIN who_names n ON n.sort = 'known' AND n.name = c.spoken_name
  LEFT JOIN who_names r ON r.sort = 'role' AND r.name = c.issuer
  LEFT JOIN who_names i ON i.sort = 'role' AND i.name = substr(c.principal, 1, greatest(strpos(c.principal, ':') - 1, 0))
)
SELECT f.caller, f.base_key,
  CASE WHEN f.base_key <> '' AND b.source <> '' THEN b.source
    WHEN f.base_key <> '' AND b.disputed THEN b.owner
    WHEN f.base_key <> '' THEN b.name
    WHEN f.generic OR NOT (f.known OR f.notebook_role) THEN ''
    ELSE f.spoken_name END AS name,
  CASE WHEN f.base_key = '' OR b.source <> '' THEN '' WHEN b.disputed AND b.owner <> '' OR NOT b.disputed AND b.names > 0 THEN 'base_key' ELSE '' END AS rung,
  CASE WHEN f.base_key <> '' AND b.source <> '' THEN 'high'
    WHEN f.base_key <> '' AND b.disputed THEN CASE WHEN b.owner <> '' THEN 'medium' ELSE '' END
    WHEN f.base_key <> '' AND b.names > 0 THEN CASE WHEN b.sourced THEN 'high' ELSE 'medium' END
    WHEN f.base_key <> '' OR f.generic THEN ''
    WHEN f.known THEN 'medium' WHEN f.notebook_role THEN 'low' ELSE '' END AS confidence,
  f.base_key <> '' AND b.source = '' AND b.disputed AS conflict,
  CASE WHEN f.base_key <> '' AND (b.source <> '' OR b.names > 0 AND NOT b.disputed OR b.owner <> '') THEN ''
    WHEN f.base_key <> '' AND b.disputed THEN 'disputed'
    WHEN f.base_key <> '' THEN 'no_name_claimed'
    WHEN f.session_name LIKE 'AWSLF-%' THEN 'no_lake_formation_call'
    WHEN f.machine AND f.notebook_role THEN 'no_name_claimed'
    WHEN f.generic THEN 'assume_role_missing'
    WHEN f.known OR f.notebook_role THEN ''
    ELSE 'session_name_unknown' END AS reason,
  CASE WHEN f.base_key <> '' AND b.source <> '' THEN ''
    WHEN f.base_key <> '' AND b.names > 0 THEN 'bypass'
    WHEN f.base_key <> '' THEN 'possible'
    WHEN f.machine AND f.notebook_role THEN 'possible'
    ELSE '' END AS escapes
FROM found f LEFT JOIN who_bases b ON b.key_id = f.base_key;

-- 8. Callers that are no role session: users and services, who say who they are.
CREATE TABLE who_principals WITH (format = 'PARQUET') AS
SELECT id,
  CASE WHEN caller_type = 'Root' THEN concat('root of ', caller_account)
    WHEN by_service THEN invoked_by
    WHEN person <> '' AND user_name = '' THEN person
    WHEN user_name <> '' THEN user_name
    ELSE coalesce(regexp_extract(arn, '[^:/]*$'), '') END AS name,
  CASE WHEN by_service THEN 'service' ELSE 'user' END AS kind,
  CASE WHEN caller_type = 'Root' OR by_service OR person <> '' OR user_name <> '' OR arn <> '' THEN ''
    WHEN caller_type = 'AWSAccount' THEN 'another_account' ELSE 'no_caller' END AS reason
FROM who_calls WHERE NOT role_session;

-- 9. Where chains begin. A session that a user or a source identity speaks for hangs
-- below a node of theirs; one that another session asked for, below that.
CREATE TABLE who_chains WITH (format = 'PARQUET') AS
WITH steps AS (
  SELECT s.*,
    CASE WHEN s.base AND r.base_key <> '' THEN CASE WHEN s.claimed <> '' THEN 'claim' ELSE 'base' END
      WHEN s.by_service AND s.issued_source <> '' THEN 'source'
      WHEN s.by_service AND own.key_id IS NOT NULL THEN 'own base'
      WHEN s.by_service AND s.issued_machine THEN 'machine'
      WHEN s.by_service AND s.issued_session LIKE 'AWSLF-%' THEN 'lake'
      WHEN s.by_service THEN 'service'
      WHEN NOT s.role_session THEN 'principal'
      WHEN s.parent <> '' THEN 'parent'
      WHEN s.source <> '' THEN 'caller'
      WHEN s.issued_source <> '' THEN 'source'
      ELSE 'session name' END AS how,
    CASE WHEN s.issued_source <> '' THEN s.issued_source WHEN n.name IS NOT NULL THEN n.name ELSE '' END AS given,
    coalesce(own.key_id, r.base_key, '') AS decided_by
  FROM who_steps s
  LEFT JOIN who_roots r ON r.caller = s.caller AND s.role_session
  LEFT JOIN who_bases own ON own.key_id = s.issued_key AND s.issued_key <> '' AND s.by_service
  LEFT JOIN who_names n ON n.sort = 'notebook' AND n.name = s.issued_name
)
SELECT
  CASE WHEN s.how IN ('principal', 'caller') THEN concat('caller of ', s.id) ELSE s.id END AS node,
  s.id AS session,
  s.how,
  CASE s.how WHEN 'parent' THEN s.parent WHEN 'principal' THEN concat('caller of ', s.id) WHEN 'caller' THEN concat('caller of ', s.id) ELSE '' END AS below,
  s.given, s.issued_source, g.name IS NOT NULL AS given_notebook,
  CASE s.how
    WHEN 'claim' THEN CASE WHEN NOT b.disputed THEN s.claimed ELSE b.owner END
    WHEN 'base' THEN r.name
    WHEN 'source' THEN s.issued_source
    WHEN 'own base' THEN CASE WHEN b.source <> '' THEN b.source WHEN b.disputed THEN b.owner ELSE b.name END
    WHEN 'service' THEN s.invoked_by
    WHEN 'principal' THEN p.name
    WHEN 'caller' THEN s.source
    WHEN 'session name' THEN r.name
    ELSE '' END AS name,
  CASE WHEN s.how = 'service' THEN 'service' WHEN s.how = 'principal' THEN p.kind ELSE 'notebook' END AS kind,
  CASE s.how
    WHEN 'claim' THEN CASE WHEN b.disputed AND b.owner <> '' AND b.owner <> s.claimed THEN 'base_key' ELSE '' END
    WHEN 'base' THEN r.rung
    WHEN 'own base' THEN CASE WHEN b.source <> '' THEN '' WHEN b.disputed AND b.owner <> '' OR NOT b.disputed AND b.names > 0 THEN 'base_key' ELSE '' END
    ELSE '' END AS rung,
  CASE s.how
    WHEN 'claim' THEN CASE WHEN NOT b.disputed THEN CASE WHEN b.sourced THEN 'high' ELSE 'medium' END
      WHEN b.owner = '' THEN '' WHEN b.owner <> s.claimed THEN 'low' ELSE 'medium' END
    WHEN 'base' THEN r.confidence
    WHEN 'own base' THEN CASE WHEN b.source <> '' THEN 'high' WHEN b.disputed THEN CASE WHEN b.owner <> '' THEN 'medium' ELSE '' END
      WHEN b.names = 0 THEN '' WHEN b.sourced THEN 'high' ELSE 'medium' END
    WHEN 'machine' THEN ''
    WHEN 'lake' THEN ''
    WHEN 'principal' THEN CASE WHEN p.name <> '' THEN 'high' ELSE '' END
    WHEN 'session name' THEN r.confidence
    ELSE 'high' END AS confidence,
  CASE s.how
    WHEN 'claim' THEN b.disputed
    WHEN 'base' THEN r.conflict
    WHEN 'own base' THEN b.source = '' AND b.disputed
    ELSE false END AS conflict,
  CASE s.how
    WHEN 'claim' THEN CASE WHEN b.disputed AND b.owner = '' THEN 'disputed' ELSE '' END
    WHEN 'base' THEN r.reason
    WHEN 'own base' THEN CASE WHEN b.source <> '' THEN '' WHEN b.disputed THEN CASE WHEN b.owner = '' THEN 'disputed' ELSE '' END
      WHEN b.names = 0 THEN 'no_name_claimed' ELSE '' END
    WHEN 'machine' THEN 'no_name_claimed'
    WHEN 'lake' THEN 'no_lake_formation_call'
    WHEN 'principal' THEN p.reason
    WHEN 'session name' THEN r.reason
    ELSE '' END AS reason,
  CASE s.how
    WHEN 'base' THEN r.escapes
    WHEN 'own base' THEN CASE WHEN b.source <> '' THEN '' WHEN b.names = 0 THEN 'possible' ELSE 'bypass' END
    WHEN 'machine' THEN 'possible'
    WHEN 'session name' THEN r.escapes
    ELSE '' END AS escapes,
  -- Sessions decided by the same evidence are of one origin.
  CASE s.how WHEN 'claim' THEN concat(s.decided_by, ' ', s.claimed) WHEN 'base' THEN concat(s.decided_by, ' ') WHEN 'own base' THEN concat(s.decided_by, ' ') ELSE s.id END AS origin
FROM steps s
LEFT JOIN who_roots r ON r.caller = s.caller AND s.role_session
LEFT JOIN who_bases b ON b.key_id = s.decided_by
LEFT JOIN who_names g ON g.sort = 'notebook' AND g.name = s.given
LEFT JOIN who_principals p ON p.id = s.id;

-- 10. Who holds each session, following its chain. Athena recurses ten times at the
-- most and fails beyond, so this stops after eight: the sessions further on, and
-- circular ones, are left to nbidentityd who.
CREATE TABLE who_verdicts WITH (format = 'PARQUET') AS
WITH RECURSIVE verdicts (node, depth, name, kind, rung, confidence, conflict, reason, escapes, origin) AS (
  SELECT node, CAST(0 AS bigint), CAST(name AS varchar), CAST(kind AS varchar), CAST(rung AS varchar), CAST(confidence AS varchar),
    conflict, CAST(reason AS varchar), CAST(escapes AS varchar), CAST(origin AS varchar)
  FROM who_chains WHERE how <> 'parent'
  UNION ALL
  -- Users and services may speak for others, but not for a notebook; a notebook
  -- has no other name. Who has shown none has none to give.
  SELECT session, depth + 1,
    CASE WHEN turn = 'source' THEN issued_source ELSE name END,
    CASE WHEN turn = 'source' THEN 'notebook' ELSE kind END,
    CASE WHEN turn = 'source' THEN '' ELSE rung END,
    CASE turn WHEN 'source' THEN 'high' WHEN 'deny' THEN 'medium' ELSE confidence END,
    turn IN ('deny', 'dispute') OR turn = 'keep' AND conflict,
    CASE turn WHEN 'source' THEN '' WHEN 'dispute' THEN 'disputed' ELSE reason END,
    CASE WHEN turn = 'source' THEN '' ELSE escapes END,
    CASE WHEN turn = 'keep' THEN origin ELSE session END
  FROM (
    SELECT c.session, c.issued_source, v.depth, v.name, v.kind, v.rung, v.confidence, v.conflict, v.reason, v.escapes, v.origin,
      CASE WHEN c.given = '' OR c.given = v.name OR v.conflict THEN 'keep'
        WHEN c.issued_source = '' AND (v.name = '' OR v.confidence = 'low') THEN 'keep'
        WHEN (v.escapes = 'possible' OR v.reason = 'another_account') AND c.given_notebook THEN 'dispute'
        WHEN v.name = '' OR v.confidence = 'low' THEN 'source'
        WHEN v.kind = 'notebook' OR c.given_notebook THEN 'deny'
        ELSE 'source' END AS turn
    FROM verdicts v JOIN who_chains c ON c.below = v.node
    WHERE v.depth < 8
  ) turns
)
SELECT * FROM verdicts WHERE node NOT LIKE 'caller of %';

-- 11. Who holds each caller's credentials. Several sessions that began in one second
-- count only if they are of one name.
CREATE TABLE who_callers WITH (format = 'PARQUET') AS
WITH linked AS (
  SELECT l.caller, l.rung AS link, v.*, v.node IS NULL AS beyond,
    row_number() OVER (PARTITION BY l.caller ORDER BY l.session) AS place,
    CASE WHEN v.name <> '' THEN concat(v.kind, ' ', v.name) ELSE concat('? ', v.origin) END AS same
  FROM who_links l LEFT JOIN who_verdicts v ON v.node = l.session
), agreed AS (
  SELECT caller, count(DISTINCT same) AS answers, bool_or(beyond) AS beyond FROM linked GROUP BY caller
)
SELECT r.caller,
  coalesce(a.beyond, false) AS beyond,
  coalesce(a.answers, 0) > 1 AND r.base_key = '' AS ambiguous,
  coalesce(a.answers, 0) = 1 OR r.base_key <> '' AS held,
  CASE WHEN a.answers = 1 THEN l.name WHEN a.answers > 1 AND r.base_key = '' THEN '' ELSE r.name END AS name,
  CASE WHEN a.answers = 1 THEN l.kind ELSE 'notebook' END AS kind,
  CASE WHEN a.answers = 1 THEN CASE WHEN l.rung = 'base_key' THEN l.rung ELSE l.link END
    WHEN r.base_key <> '' THEN 'base_key' ELSE 'session_name' END AS rung,
  CASE WHEN a.answers = 1 THEN l.confidence WHEN a.answers > 1 AND r.base_key = '' THEN '' ELSE r.confidence END AS confidence,
  CASE WHEN a.answers = 1 THEN l.conflict WHEN a.answers > 1 AND r.base_key = '' THEN false ELSE r.conflict END AS conflict,
  CASE WHEN a.answers = 1 THEN l.reason WHEN a.answers > 1 AND r.base_key = '' THEN 'ambiguous' ELSE r.reason END AS reason,
  CASE WHEN a.answers = 1 THEN l.escapes WHEN a.answers > 1 AND r.base_key = '' THEN '' ELSE r.escapes END AS escapes
FROM who_roots r
LEFT JOIN agreed a ON a.caller = r.caller
LEFT JOIN linked l ON l.caller = r.caller AND l.place = 1;

-- 12. The answer for each call from its credentials alone. left_to_local are the calls
-- of which these queries say nothing.
CREATE TABLE who_direct WITH (format = 'PARQUET') AS
SELECT c.id, c.unix, c.grants, c.query_id, c.lake_session, c.session_name, c.job, c.scope,
  CASE WHEN p.id IS NOT NULL THEN p.name WHEN h.beyond THEN '' WHEN c.source <> '' AND NOT (h.held AND h.conflict) THEN c.source ELSE h.name END AS name,
  CASE WHEN p.id IS NOT NULL THEN p.kind WHEN c.source <> '' AND NOT (h.held AND h.conflict) THEN 'notebook' ELSE h.kind END AS kind,
  CASE WHEN p.id IS NOT NULL THEN 'principal' WHEN c.source <> '' AND NOT (h.held AND h.conflict) THEN 'source_identity' ELSE h.rung END AS rung,
  CASE WHEN p.id IS NOT NULL THEN 'high' WHEN c.source <> '' AND NOT (h.held AND h.conflict) THEN 'high' ELSE h.confidence END AS confidence,
  CASE WHEN p.id IS NOT NULL THEN p.reason WHEN h.beyond THEN 'left_to_local' WHEN c.source <> '' AND NOT (h.held AND h.conflict) THEN '' ELSE h.reason END AS reason,
  CASE WHEN p.id IS NOT NULL OR h.beyond OR c.source <> '' AND NOT (h.held AND h.conflict) THEN '' ELSE h.escapes END AS escapes,
  CASE WHEN p.id IS NOT NULL OR h.beyond OR c.source <> '' AND NOT (h.held AND h.conflict) THEN false ELSE h.conflict END AS conflict
FROM who_calls c
LEFT JOIN who_principals p ON p.id = c.id
LEFT JOIN who_callers h ON h.caller = c.caller AND c.role_session
LEFT JOIN (SELECT id FROM who_issues WHERE copy > 1) x ON x.id = c.id
WHERE x.id IS NULL;

-- 13. Who stands behind each Lake Formation grant: the caller for whom the engine
-- asked, or whoever started the query.
CREATE TABLE who_grants WITH (format = 'PARQUET') AS
WITH behind AS (
  SELECT id AS granted, unix AS granted_at, lake_session, CAST(0 AS bigint) AS asked_at, id, name, kind, confidence, reason, escapes, conflict FROM who_direct WHERE grants
  UNION ALL
  SELECT g.id AS granted, g.unix AS granted_at, g.lake_session, q.unix AS asked_at, q.id, q.name, q.kind, q.confidence, q.reason, q.escapes, q.conflict
  FROM who_direct g JOIN who_direct q ON q.query_id = g.query_id
  WHERE g.grants AND NOT q.grants AND g.query_id <> ''
), ranked AS (
  SELECT behind.*,
    row_number() OVER (PARTITION BY granted ORDER BY CASE WHEN name <> '' THEN 0 ELSE 1 END, CASE WHEN name <> '' THEN asked_at ELSE -asked_at END, CASE WHEN name <> '' THEN id ELSE '' END, id DESC) AS place
  FROM behind
), counted AS (
  SELECT granted, count(DISTINCT nullif(name, '')) AS names, bool_or(reason = 'left_to_local') AS beyond FROM behind GROUP BY granted
)
SELECT r.granted, r.granted_at, r.lake_session,
  CASE WHEN c.beyond OR c.names > 1 THEN '' ELSE r.name END AS name,
  r.kind,
  CASE WHEN c.names > 1 THEN '' ELSE r.confidence END AS confidence,
  CASE WHEN c.beyond THEN 'left_to_local' WHEN c.names > 1 THEN 'ambiguous' ELSE r.reason END AS reason,
  c.names < 2 AND r.conflict AS conflict
FROM ranked r JOIN counted c ON c.granted = r.granted
WHERE r.place = 1;

-- 14. The same for the sessions that Lake Formation handed out for the grants. Where
-- several grants of one session are each of more than one name, it is left to local.
CREATE TABLE who_lake_sessions WITH (format = 'PARQUET') AS
WITH ranked AS (
  SELECT who_grants.*,
    row_number() OVER (PARTITION BY lake_session ORDER BY CASE WHEN name <> '' THEN 0 ELSE 1 END, CASE WHEN name <> '' THEN granted_at ELSE -granted_at END, CASE WHEN name <> '' THEN granted ELSE '' END, granted DESC) AS place
  FROM who_grants WHERE lake_session <> ''
), counted AS (
  SELECT lake_session, count(*) AS grants, count(DISTINCT nullif(name, '')) AS names,
    bool_or(reason = 'ambiguous') AS split, bool_or(reason = 'left_to_local') AS beyond
  FROM who_grants WHERE lake_session <> '' GROUP BY lake_session
)
SELECT r.lake_session,
  CASE WHEN c.beyond OR c.split OR c.names > 1 THEN '' ELSE r.name END AS name,
  r.kind,
  CASE WHEN c.names > 1 THEN '' ELSE r.confidence END AS confidence,
  CASE WHEN c.beyond OR c.split AND c.grants > 1 THEN 'left_to_local' WHEN c.names > 1 THEN 'ambiguous' ELSE r.reason END AS reason,
  c.names < 2 AND r.conflict AS conflict
FROM ranked r JOIN counted c ON c.lake_session = r.lake_session
WHERE r.place = 1;

-- 15. The answers. reason says why there is no name; left_to_local means: run
-- nbidentityd who on the files. Left to it are also who opened the notebook, the jobs
-- at which only a log hints, and the story of each conflict.
CREATE TABLE who_answers WITH (format = 'PARQUET') AS
WITH jobs AS (
  SELECT job, name, kind, confidence, reason,
    row_number() OVER (PARTITION BY job ORDER BY unix DESC, id DESC) AS place
  FROM who_direct WHERE job <> ''
), lake AS (
  SELECT d.id, d.scope,
    d.name = '' AND d.reason <> 'left_to_local' AND coalesce(g.reason, s.reason) IS NOT NULL AS lent,
    d.name, d.kind, d.rung, d.confidence, d.reason, d.escapes, d.conflict,
    coalesce(g.name, s.name, '') AS lake_name, coalesce(g.kind, s.kind, '') AS lake_kind, coalesce(g.confidence, s.confidence, '') AS lake_confidence,
    coalesce(g.reason, s.reason, '') AS lake_reason, coalesce(g.conflict, s.conflict, false) AS lake_conflict
  FROM who_direct d
  LEFT JOIN who_grants g ON g.granted = d.id
  LEFT JOIN who_lake_sessions s ON s.lake_session = d.session_name AND d.session_name <> ''
), bridged AS (
  SELECT id, scope,
    CASE WHEN lent THEN lake_name ELSE name END AS name,
    CASE WHEN lent THEN lake_kind ELSE kind END AS kind,
    CASE WHEN lent THEN 'lake_formation' ELSE rung END AS rung,
    CASE WHEN lent THEN lake_confidence ELSE confidence END AS confidence,
    CASE WHEN lent THEN lake_reason ELSE reason END AS reason,
    CASE WHEN lent THEN '' ELSE escapes END AS escapes,
    CASE WHEN lent THEN lake_conflict ELSE conflict END AS conflict
  FROM lake
), worked AS (
  SELECT b.*, j.name AS job_name, j.kind AS job_kind, j.confidence AS job_confidence,
    b.name = '' AND b.reason <> 'left_to_local' AND NOT b.conflict AND coalesce(j.name, '') <> '' AS started,
    b.name = '' AND NOT b.conflict AND coalesce(j.reason, '') = 'left_to_local' AS beyond
  FROM bridged b LEFT JOIN jobs j ON j.job = b.scope AND j.place = 1
), final AS (
  SELECT id,
    CASE WHEN started THEN job_name ELSE name END AS name,
    CASE WHEN started THEN job_kind ELSE kind END AS kind,
    CASE WHEN started THEN 'job' WHEN name = '' THEN '' ELSE rung END AS rung,
    CASE WHEN started THEN job_confidence ELSE confidence END AS confidence,
    CASE WHEN started THEN '' WHEN beyond THEN 'left_to_local' ELSE reason END AS reason,
    CASE WHEN started THEN '' ELSE escapes END AS escapes,
    CASE WHEN started THEN false ELSE conflict END AS conflict
  FROM worked
), claims AS (
  SELECT * FROM who_steps WHERE base AND key_id <> '' AND invoked_by = '' AND claimed <> ''
), firsts AS (
  -- A notebook instance has base credentials before it has nbidentityd: from somebody's
  -- starting it to the first claim of its name.
  SELECT b.instance_started AS name, b.unix AS began, b.recipient, b.region, min(c.unix) AS ready
  FROM who_calls b JOIN claims c ON c.claimed = b.instance_started AND c.unix >= b.unix
  WHERE b.instance_started <> ''
  GROUP BY b.instance_started, b.unix, b.recipient, b.region
), startups AS (
  SELECT f.name, max(f.began) AS began, f.ready
  FROM firsts f
  JOIN claims c ON c.claimed = f.name AND c.unix = f.ready AND c.caller_account = f.recipient AND c.region = f.region AND c.created >= f.began
  JOIN who_bases b ON b.key_id = c.key_id AND NOT b.disputed
  WHERE f.ready - f.began <= 1200
  GROUP BY f.name, f.ready
)
SELECT c.id, c.unix, from_unixtime(c.unix) AS time, c.service, c.action, c.region, c.address, c.error_code, c.recipient, c.arn,
  f.name, CASE WHEN f.name = '' THEN '' ELSE f.kind END AS kind, f.rung, CASE WHEN f.name = '' THEN '' ELSE f.confidence END AS confidence, f.reason,
  -- What the daemon itself calls with base credentials is no escape.
  CASE WHEN c.service = 'sts.amazonaws.com' AND c.action = 'AssumeRole' AND (c.error_code <> '' OR k.id IS NOT NULL) THEN ''
    WHEN c.service = 'sts.amazonaws.com' AND c.action = 'GetCallerIdentity' THEN ''
    WHEN c.service = 'sagemaker.amazonaws.com' AND c.action IN ('DescribeNotebookInstance', 'DescribeSpace', 'DescribeUserProfile', 'DescribeDomain') THEN ''
    WHEN f.escapes = 'bypass' AND NOT f.conflict AND u.name IS NOT NULL THEN 'start_up'
    ELSE f.escapes END AS escapes,
  f.conflict
FROM final f
JOIN who_calls c ON c.id = f.id
LEFT JOIN claims k ON k.id = f.id
LEFT JOIN startups u ON u.name = f.name AND c.unix >= u.began AND c.unix >= u.ready - 300 AND c.unix < u.ready AND c.created >= u.began;

-- 16. How many calls are known by which evidence, or why they are not.
SELECT rung, reason, count(*) AS calls FROM who_answers GROUP BY rung, reason ORDER BY calls DESC, rung, reason;

-- 17. Who made how many calls, and how many around nbidentityd.
SELECT name, kind, count(*) AS calls, sum(CASE WHEN escapes = 'bypass' THEN 1 ELSE 0 END) AS bypasses, min(time) AS first_call, max(time) AS last_call
FROM who_answers GROUP BY name, kind ORDER BY calls DESC, name, kind;
